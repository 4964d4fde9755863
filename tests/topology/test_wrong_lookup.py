"""Lookups that cannot be are refused in one line with a remedy; what can be goes into the table's version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from headrace.errors import DeclarationError
from tests.topology.declare import ORDERS, PER_CUSTOMER, PER_PRODUCT, table
from topology import Aggregate, Dedup, Latest, Lookup, Topic, compile_pipeline
from topology.lookup_order import in_order
from topology.program import PipelineProgram

EVENTS = replace(ORDERS, name="customer-events")
CUSTOMERS = Latest(
    "customers",
    EVENTS,
    by=["customerId"],
    columns={
        "region": "status",
        "weight": "quantity",
        "price": "orderAmount",
        "at": "cast(orderTimestamp as timestamp)",
    },
    history=True,
)
LOOKUP = Lookup(CUSTOMERS, on="customerId", columns=["region", "weight"])


def compiled(*tables: Aggregate | Latest, of: Latest = CUSTOMERS, extra: Sequence[Latest] = ()) -> PipelineProgram:
    made = [compile_pipeline(one.source.name, one.source, [one], place="assets/x.py") for one in (of, *extra)]
    others = {one.name: one for program in made for one in program.tables}
    return compile_pipeline("orders", ORDERS, tables, place="assets/orders.py", others=others)


def refused(*tables: Aggregate | Latest, **more: Any) -> str:
    with pytest.raises(DeclarationError) as caught:
        compiled(*tables, **more)
    message = str(caught.value)
    assert "\n" not in message and message.startswith("assets/orders.py: per_customer")
    return message


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"table": PER_PRODUCT}, "lookups: per_product is no Latest, and has no versions to look up; declare Latest("),
        ({"table": ORDERS}, "lookups: orders is no Latest"),
        ({"table": None}, "lookups: None is no Latest"),
        (
            {"table": replace(CUSTOMERS, history=False)},
            "customers has the newest rows alone, not those of a record's time; declare it with history=True",
        ),
        (
            {"table": replace(CUSTOMERS, source=ORDERS)},
            "customers is made by the same pipeline orders, which would wait for itself; look up in a table of another",
        ),
        (
            {"table": replace(CUSTOMERS, name="custmers")},
            'its table "custmers" is not declared by a name of its own at the top of a file; did you mean "customers"?',
        ),
        ({"table": replace(CUSTOMERS)}, 'its table "customers" is not declared by a name of its own'),
        ({"on": "customer"}, 'Lookup(customers).on: column "customer" does not exist in orders/order_created.avsc'),
        ({"on": "orderAmount"}, 'column "orderAmount" is double, which makes no groups'),
        (
            {"on": "quantity"},
            "lookups: quantity of orders is integer, customerId of customers is text; give one topic the type of the "
            "other: Derived(..., source=orders) with a cast in columns",
        ),
        ({"columns": []}, 'Lookup(customers).columns: it needs columns; name some, as in columns=["region"]'),
        ({"columns": "region"}, "it needs columns; name some"),
        ({"columns": ["regoin"]}, 'column "regoin" does not exist in customers; did you mean "region"?'),
        ({"columns": ["valid_from"]}, 'column "valid_from" does not exist in customers'),
        ({"columns": {"a b": "region"}}, 'name "a b" does not fit'),
        ({"columns": {"_x1": "region"}}, 'name "_x1" does not fit'),
        ({"columns": ["at"]}, "at of customers is TIMESTAMP; cast it to timestamptz there"),
        (
            {"columns": {"Status": "region"}},
            'lookups: "Status" is a field of orders/order_created.avsc already; name the column otherwise: '
            'Lookup(customers, ..., columns={"customers_Status": "region"})',
        ),
        ({"columns": {"a": "region", "A": "weight"}}, '"A" is looked up in customers already; name the column otherwi'),
        ({"missing": "drop"}, 'missing="drop" is unknown; use "null" or "dead_letter"'),
    ],
)
def test_a_lookup_that_cannot_be(changes: dict[str, Any], says: str) -> None:
    assert says in refused(table(lookups=[replace(LOOKUP, **changes)]))


def test_further_tables_that_cannot_be() -> None:
    assert "it is a list; write lookups=[Lookup(...)]" in refused(table(lookups=LOOKUP))
    assert "'x' is no lookup; write lookups=[Lookup(...)]" in refused(table(lookups=["x"]))
    two = replace(CUSTOMERS, by=["customerId", "productId"])
    says = "customers is by customerId, productId, a lookup has one key; declare a Latest by one column"
    assert says in refused(table(lookups=[replace(LOOKUP, table=two)]), of=two)
    flags = replace(CUSTOMERS, source=replace(EVENTS, schema="orders/order_created.avsc"), by=["quantity"])
    assert "customerId of orders is text, quantity of customers is integer" in refused(
        table(lookups=[replace(LOOKUP, table=flags)]), of=flags
    )
    assert 'column "regoin" does not exist in orders/order_created.avsc; did you mean "region"' in refused(
        table(lookups=[LOOKUP], where="regoin = 'x'")
    )
    dedup = Dedup(["customerId", "region"], horizon="1 hour")
    assert 'column "region" does not exist' in refused(table(lookups=[LOOKUP], dedup=dedup))


def test_a_name_means_the_same_in_all_tables_of_a_topic() -> None:
    one = table(name="one", lookups=[LOOKUP])
    other = replace(LOOKUP, columns={"region": "weight"})
    says = 'per_customer.lookups: another table of orders looks up another column as "region"; rename one'
    assert says in refused(one, table(lookups=[other]))
    again = compiled(one, table(lookups=[replace(LOOKUP, columns=["region"], missing="dead_letter")]))
    assert len(again.lookups) == 2  # one more column makes another lookup; equal ones are one
    same = compiled(one, table(lookups=[replace(LOOKUP, missing="dead_letter")]))
    assert len(same.lookups) == 1
    assert "region" not in refused(one, table(measures={"n": "count(distinct weigth)"})).partition("exist in")[0]


def test_a_latest_looks_up_as_well() -> None:
    rows = Latest("per_customer_rows", ORDERS, by=["orderId"], columns=["regoin"], lookups=[LOOKUP])
    assert 'column "regoin" does not exist in orders/order_created.avsc; did you mean "region"' in refused(rows)
    assert "'x' is no lookup" in refused(replace(rows, lookups=["x"]))  # type: ignore[list-item]
    (found,) = compiled(replace(rows, columns=["region"])).tables
    (alone,) = compiled(replace(rows, columns={"region": "status"}, lookups=())).tables
    assert found.lookups and found.version != alone.version and found.definition["lookups"]
    assert "lookups" not in alone.definition


def test_what_gives_other_rows_is_in_the_version() -> None:
    (first,) = compiled(table(lookups=[LOOKUP])).tables
    assert first.version != compiled(PER_CUSTOMER).tables[0].version
    assert (
        first.version
        == compiled(table(lookups=[replace(LOOKUP, columns={"weight": "weight", "region": "region"})]))
        .tables[0]
        .version
    )
    for lookup in (
        replace(LOOKUP, missing="dead_letter"),
        replace(LOOKUP, on="productId"),
        replace(LOOKUP, columns=["region"]),
    ):
        assert compiled(table(lookups=[lookup])).tables[0].version != first.version
    changed = replace(CUSTOMERS, where="quantity > 1")
    (other,) = compiled(table(lookups=[replace(LOOKUP, table=changed)]), of=changed).tables
    assert other.version != first.version


def test_a_table_without_lookups_beside_one_keeps_its_version() -> None:
    beside = compiled(table(name="one", lookups=[LOOKUP]), PER_CUSTOMER, PER_PRODUCT)
    alone = compiled(PER_CUSTOMER, PER_PRODUCT)
    assert [one.version for one in beside.tables[1:]] == [one.version for one in alone.tables]
    assert alone.lookups == () and "_found" not in alone.route_sql


def test_pipelines_that_look_up_in_each_other() -> None:
    mine = Latest("order_rows", ORDERS, by=["customerId"], columns=["status"], history=True)
    theirs = table(EVENTS, name="events", lookups=[Lookup(mine, "customerId", ["status"])])
    tables = [table(lookups=[LOOKUP]), theirs]
    places = {id(one): "assets/orders.py" for one in tables}
    with pytest.raises(DeclarationError) as caught:
        in_order([ORDERS, EVENTS], tables, places)
    assert str(caught.value) == (
        "assets/orders.py: events.lookups: pipelines look up in each other (orders -> customer-events -> orders), so "
        "each would wait for the other; give one of the tables a topic of its own with Derived(...)"
    )
    topics: list[Topic] = [ORDERS, EVENTS]
    assert in_order(topics, tables[:1], places) == [EVENTS, ORDERS]
    assert in_order(topics, [], places) == topics
