"""What is wrong with a table of newest rows is one line that names file, table and column, and says what to do."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.errors import DeclarationError
from tests.topology.declare import ORDERS
from topology import Expect, Latest, Unique, compile_pipeline
from topology.check_expect import compile_expect
from topology.program import TableProgram


def compiled(**changes: Any) -> TableProgram:
    declared: dict[str, Any] = {"name": "customers", "source": ORDERS, "by": ["customerId"], "columns": ["status"]}
    latest = Latest(**{**declared, **changes})
    (table,) = compile_pipeline("orders", ORDERS, [latest], place="assets/orders.py").tables
    return table


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"by": []}, "customers.by: it needs the columns of the key"),
        ({"by": "customerId"}, "customers.by: it needs the columns of the key"),
        ({"by": ["orderAmount"]}, "which makes no groups"),
        ({"by": ["custId"]}, 'column "custId" does not exist'),
        ({"columns": []}, "customers.columns: it needs columns"),
        ({"columns": "status"}, "customers.columns: it needs columns"),
        ({"columns": ["statu"]}, 'did you mean "status"?'),
        ({"columns": ["customerId"]}, 'column "customerId" is there twice'),
        ({"columns": {"valid_from": "status"}}, 'column name "valid_from" is reserved'),
        ({"columns": {"a b": "status"}}, 'name "a b" does not fit'),
        ({"columns": {"raw": "encode(status)"}}, "BLOB is not supported; cast it"),
        ({"columns": {"n": "random()"}}, "does not depend on the record alone"),
        ({"columns": {"n": "count(*)"}}, '"count(*)" has a star'),
        ({"where": "quantity"}, "a condition is true or false"),
        ({"name": "pg_x"}, "belong to Postgres"),
        ({"max_lag": "1 ms"}, "less than a second"),
    ],
)
def test_it_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        compiled(**changes)
    assert says in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).startswith("assets/orders.py: ")


def test_a_history_has_no_unique_key() -> None:
    table = compiled(history=True)
    with pytest.raises(DeclarationError, match="a history has every version of customerId"):
        compile_expect(Expect(table.table, critical={"once": Unique("customerId")}), table, "assets/orders.py")  # type: ignore[arg-type]


def test_only_what_changes_rows_changes_the_version() -> None:
    version = compiled().version
    assert compiled(description="words", max_lag="1 hour", columns={"status": "status"}).version == version
    changed: list[dict[str, Any]] = [
        {"history": True},
        {"where": "quantity > 1"},
        {"columns": ["status", "orderId"]},
        {"by": ["productId"]},
    ]
    assert len({version, *(compiled(**one).version for one in changed)}) == 5
