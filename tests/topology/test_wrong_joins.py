"""Joins that cannot be are refused in one line with a remedy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from headrace.errors import DeclarationError
from tests.topology.declare import ORDERS, PER_CUSTOMER
from topology import Join, Latest, Topic, compile_pipeline
from topology.join_compile import compile_join
from topology.program import JoinProgram, TableProgram

PAYMENTS = replace(ORDERS, name="payments")
LEFT = Latest("order_rows", ORDERS, by=["customerId"], columns=["orderId"], history=True)
RIGHT = Latest("payment_rows", PAYMENTS, by=["customerId"], columns={"paymentId": "orderId"}, history=True)
THIRD = Latest("shipment_rows", replace(ORDERS, name="shipments"), by=["customerId"], columns={"shipmentId": "orderId"})
FOURTH = Latest("note_rows", replace(ORDERS, name="notes"), by=["customerId"], columns={"noteId": "orderId"})
JOIN = Join("paid", LEFT, RIGHT, {"customerId": "customerId"}, ("-5 minutes", "30 minutes"), "left", "5 minutes")


def compiled(join: Join) -> JoinProgram:
    tables = [table for table in join.tables if isinstance(table, Latest)]
    topics: list[Topic] = [*{table.source.name: table.source for table in tables}.values()]
    programs: dict[str, TableProgram] = {}
    for topic in topics:
        own = [*{table.name: table for table in tables if table.source.name == topic.name}.values()]
        made = compile_pipeline(topic.name, topic, own, place="assets/orders.py")
        programs |= {table.name: table for table in made.tables}
    return compile_join(join, programs, "assets/orders.py")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"left": PER_CUSTOMER}, "paid.left: per_customer has no rows with an event time each; join a Latest of the"),
        ({"right": JOIN}, "paid.right: paid is a join, and only the left side may be one; swap the sides"),
        ({"left": JOIN}, "paid: payment_rows is on both sides; declare a second table of payments under another name"),
        ({"left": replace(JOIN, within=("1 minute", "0 minutes")), "right": THIRD}, "ends before it begins"),
        ({"left": replace(JOIN, kind="inner"), "right": THIRD}, "paid.lateness: an inner join waits for nothing"),
        ({"right": ORDERS}, "paid.right: orders has no rows with an event time each"),
        (
            {"right": replace(RIGHT, by=["productId"])},
            'paid.right: payment_rows is by productId, its topic payments by "customerId", so rows that belong together'
            " may lie in different partitions; read a topic that has the key of the join: Derived(..., source=payments,"
            ' key="productId")',
        ),
        ({"left": replace(LEFT, by=["customerId", "orderId"], columns=["status"])}, "paid.left: order_rows is by cust"),
        ({"right": LEFT}, "order_rows is on both sides; declare a second table of orders under another name"),
        ({"on": {"orderId": "orderId"}}, "is not the key of both sides, and only by it"),
        ({"on": {"customerId": "orderId"}}, 'write {"customerId": "customerId"}, or join a topic with another key'),
        ({"on": {}}, "paid.on: {} is not the key of both sides"),
        ({"on": "customerId"}, "paid.on: 'customerId' is not the key of both sides"),
        (
            {"right": replace(RIGHT, source=replace(PAYMENTS, partitions=3))},
            "paid: orders has 1 partitions and payments 3, so equal keys lie in different ones; join a Derived(..., "
            'source=payments, key="customerId", partitions=1)',
        ),
        (
            {
                "right": replace(RIGHT, source=replace(PAYMENTS, key="quantity"), by=["quantity"]),
                "on": {"customerId": "quantity"},
            },
            "paid.on: customerId of order_rows is text, quantity of payment_rows is integer; give one topic the type",
        ),
        ({"within": "30 minutes"}, "paid.within: '30 minutes' does not fit; write both ends, as in"),
        ({"within": ("30 minutes",)}, "write both ends, as in"),
        ({"within": ("5 minutes", "-5 minutes")}, "ends before it begins; put the smaller end first"),
        ({"within": ("0 minutes", "half an hour")}, 'paid.within: "half an hour" is not a duration'),
        ({"within": ("0 minutes", "400000 days")}, "is more than 1,000 years; bound it"),
        ({"lateness": "soon"}, 'paid.lateness: "soon" is not a duration'),
        ({"lateness": "400000 days"}, 'paid.lateness: "400000 days" is more than 1,000 years; give it less'),
        ({"kind": "inner"}, 'paid.lateness: an inner join waits for nothing; leave it out, or use kind="left"'),
        ({"kind": "full"}, 'paid.kind: "full" is unknown; use "inner" or "left"'),
        (
            {"right": replace(RIGHT, columns={"OrderId": "orderId"})},
            'column "OrderId" is there twice; rename one in the columns of order_rows or payment_rows',
        ),
        ({"right": replace(RIGHT, columns={"matched": "orderId"})}, 'column "matched" is there twice'),
        ({"name": "a-b"}, 'view name "a-b" does not fit'),
    ],
)
def test_a_join_that_cannot_be(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        compiled(replace(JOIN, **changes))
    message = str(caught.value)
    assert "\n" not in message and message.startswith("assets/orders.py: ") and says in message


def test_what_can_be() -> None:
    assert [column.name for column in compiled(JOIN).columns][-1] == "matched"
    inner = replace(JOIN, kind="inner", lateness="0 seconds", within=("-1 hour", "-5 minutes"))
    assert "ledger.positions" not in compiled(inner).ddl


def test_a_chain_shows_every_table_and_which_of_them_match() -> None:
    first = replace(JOIN, name="first")
    chain = replace(JOIN, left=first, right=THIRD)
    found = compiled(chain)
    assert [column.name for column in found.columns] == [
        "customerId",
        "orderId",
        "paymentId",
        "order_rows_time",
        "payment_rows_time",
        "matched",
        "shipmentId",
        "shipment_rows_time",
        "shipment_rows_matched",
    ]
    assert [table.name for table in found.tables] == ["order_rows", "payment_rows", "shipment_rows"]
    assert found.lineage["matched"] == (("first", "matched"),)
    assert found.lineage["shipment_rows_matched"] == (("first", "customerId"), ("shipment_rows", "customerId"))
    longer = replace(JOIN, left=replace(chain, name="second"), right=FOURTH)
    assert [column.name for column in compiled(longer).columns][-3:] == [
        "noteId",
        "note_rows_time",
        "note_rows_matched",
    ]
