"""Follow-on views that cannot be are refused in one line with a remedy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from headrace.errors import DeclarationError
from tests.topology.declare import ORDERS, PER_CUSTOMER, PER_PRODUCT
from topology import Hopping, Latest, Rolling, TopK, Tumbling, View, compile_pipeline

HOPPING = replace(PER_PRODUCT, name="hopping", window=Hopping("10 minutes", every="1 minute"))
PER_DAY = replace(PER_PRODUCT, name="per_day", window=Tumbling("1 day", zone="Europe/Berlin"))
ROLLING = Rolling("rolled", PER_PRODUCT, 4, {"average": "avg(total)"})
TOP = TopK("best", PER_PRODUCT, 3, "total")


def refused(view: View) -> str:
    with pytest.raises(DeclarationError) as caught:
        compile_pipeline(
            "orders", ORDERS, [PER_CUSTOMER, PER_PRODUCT, HOPPING, PER_DAY, view], place="assets/orders.py"
        )
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"assets/orders.py: {view.name}")
    return message


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"table": PER_CUSTOMER}, "per_customer has no tumbling windows of one length to look back over; give it some"),
        ({"table": HOPPING}, "hopping has no tumbling windows of one length"),
        ({"table": PER_DAY}, "per_day has no tumbling windows of one length"),
        ({"windows": 1}, "windows: 1 does not fit; look back over 2 to 10,000"),
        ({"windows": 10_001}, "windows: 10001 does not fit"),
        ({"empty": "null"}, 'empty: "null" is unknown; use "skip" or "zero"'),
        ({"columns": {}}, 'columns: there is none; add one, such as "average": "avg(orders)"'),
        ({"columns": {"x": "avg(totl)"}}, 'column "totl" does not exist in table per_product; did you mean "total"?'),
        ({"columns": {"x": "avg(productId)"}}, 'column "productId" is text; use a number'),
        ({"columns": {"x": "avg(windowStart)"}}, 'column "windowStart" is timestamptz; use a number'),
        ({"columns": {"x": "median(total)"}}, '"median(total)" does not fit; use one of avg, trend, anomaly over'),
        ({"columns": {"x": "avg(total / orders)"}}, "does not fit; use one of avg"),
        ({"columns": {"Total": "avg(total)"}}, 'column "Total" is there twice; rename one'),
        ({"columns": {"x y": "avg(total)"}}, 'name "x y" does not fit; a letter, then'),
        ({"name": "a-b"}, 'view name "a-b" does not fit'),
        ({"name": "pg_views"}, 'names that start with "pg_" belong to Postgres; rename the view'),
    ],
)
def test_a_rolling_view_that_cannot_be(changes: dict[str, Any], says: str) -> None:
    assert says in refused(replace(ROLLING, **changes))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"k": 0}, "k: 0 is too few; ask for 1 row or more"),
        ({"by": "sales"}, 'by: column "sales" does not exist in table per_product'),
        ({"by": "productId"}, 'by: "productId" names the row; rank by a measure'),
        ({"within": ["total"]}, 'within: "total" is no group column of per_product; use one of its by'),
        ({"within": ["windowStart"]}, 'within: "windowStart" is no group column'),
        ({"within": ["productId"]}, "within: each of these has one row, so each has rank 1; leave a column out"),
    ],
)
def test_a_top_k_that_cannot_be(changes: dict[str, Any], says: str) -> None:
    assert says in refused(replace(TOP, **changes))


def test_a_table_with_a_rank_of_its_own_is_not_ranked() -> None:
    ranked = replace(PER_PRODUCT, measures={"rank": "count(*)"})
    with pytest.raises(DeclarationError, match=r'best\.table: column "rank" is there twice; rename one'):
        compile_pipeline("orders", ORDERS, [ranked, TopK("best", ranked, 3, "rank")], place="assets/orders.py")


def test_newest_rows_are_not_ranked() -> None:
    newest = Latest("newest", ORDERS, by=["customerId"], columns=["quantity"])
    view = TopK("best", newest, 3, "quantity")  # type: ignore[arg-type]
    with pytest.raises(DeclarationError, match=r"best\.table: newest has no groups to rank; name an Aggregate"):
        compile_pipeline("orders", ORDERS, [newest, view], place="assets/orders.py")
