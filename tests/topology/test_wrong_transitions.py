"""Alerts on transitions that cannot be are refused, with a remedy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from headrace.errors import DeclarationError
from tests.topology.declare import MONEY, ORDERS, PER_CUSTOMER
from topology import Alert, Derived, Latest, compile_pipeline
from topology.transition_compile import with_transitions

STOCK = Latest("stock", ORDERS, by=["customerId"], columns={"left": "quantity", "price": MONEY})
COLUMNS = {"customerId": "customerId", "at": "valid_from", "fell_by": "previous_price - price"}


def alert(of: Any = STOCK, **changes: Any) -> Alert:
    given: dict[str, Any] = {"when": "price < previous_price", "columns": COLUMNS}
    return Alert("falls", source=of, **(given | changes))


def compiled(one: Alert, table: Latest = STOCK) -> Any:
    pipeline = compile_pipeline("orders", ORDERS, [table], place="assets/orders.py")
    return with_transitions({"orders": pipeline}, [one], {id(one): "assets/orders.py"})["orders"]


def test_it_sees_a_row_and_the_one_before() -> None:
    found = compiled(alert())
    (outlet,) = found.outlets
    assert (outlet.kind, outlet.writer, outlet.topic, outlet.table) == (
        "alerts",
        "orders:falls",
        "falls",
        found.tables[0].version_id,
    )
    (made,) = found.tables[0].transitions
    fields = {field.name: (field.kind, field.nullable) for field in made.alert.shape.fields}
    assert fields == {
        "alertId": ("string", False),
        "customerId": ("string", False),
        "at": ("timestamp-micros", False),
        "fell_by": ("decimal", True),
    }
    assert made.lineage == {"customerId": ("customerId",), "at": (), "fell_by": ("price",)}
    assert found.tables[0].version == compile_pipeline("orders", ORDERS, [STOCK], place="x").tables[0].version


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"when": "price < before"}, '.when: column "before" does not exist in the transitions of stock'),
        ({"when": "price"}, '.when: "price" is DECIMAL(18,2), a condition is true or false'),
        ({"columns": {"customerId": "customerId"}}, 'add "valid_from": "valid_from"'),
        ({"columns": {"at": "valid_from"}}, 'add "customerId": "customerId"'),
        ({"columns": {**COLUMNS, "x": "previous_customerId"}}, 'column "previous_customerId" does not exist'),
        ({"require": {"low": "fell_by > 0"}}, ".require: transitions have no dead letters; say it in when"),
        ({"made_by": "others"}, ".made_by: the worker of stock makes it"),
        (
            {"key": "left", "columns": {**COLUMNS, "left": '"left"'}},
            '.key: "left" may be null; use a column that copies',
        ),
    ],
)
def test_a_wrong_alert_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        compiled(alert(**changes))
    assert str(caught.value).startswith("assets/orders.py: falls")
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_rows_that_several_partitions_may_have_are_refused() -> None:
    spread = replace(STOCK, by=["productId"])
    with pytest.raises(DeclarationError, match=r'source: stock: records of a row.*Derived\(\.\.\., key="productId"\)'):
        compiled(alert(spread, columns={**COLUMNS, "customerId": "productId"}), spread)


def test_names_of_what_was_before_are_refused() -> None:
    twice = replace(STOCK, columns={"price": MONEY, "previous_price": MONEY})
    with pytest.raises(DeclarationError, match='column "previous_price" has the name of what "price" was before'):
        compiled(alert(twice), twice)


@pytest.mark.parametrize("of", [STOCK, PER_CUSTOMER])
def test_only_alerts_are_on_transitions(of: Any) -> None:
    with pytest.raises(DeclarationError, match=r"stock is no topic; give a topic|per_customer emits no final rows"):
        Derived("d", source=of, key="customerId", columns=COLUMNS)
