"""What cannot be emitted whenever it changes is refused, with a remedy; emitting makes another version of a table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from headrace.errors import DeclarationError
from tests.topology.declare import ORDERS, program, table
from topology import Aggregate, Changes, Count, Final, Hopping, Latest, Session, Tumbling, compile_pipeline
from topology.program import TableProgram

TO = Changes("customers-now")
NEWEST = Latest("per_customer", ORDERS, by=["customerId"], columns=["orderId"], emit=TO)
OTHER: Any = ("customers-now", Final("customers-final"))  # what a type checker would refuse


def compiled(of: Latest | Aggregate) -> TableProgram:
    return compile_pipeline("orders", ORDERS, [of], place="assets/orders.py").tables[0]


@pytest.mark.parametrize(
    ("of", "says"),
    [
        (table(emit=Changes("a topic")), '.topic: "a topic" does not fit'),
        (table(emit=Changes("sales", partitions=-1)), ".partitions: -1 is too few"),
        (
            table(by=["productId"], emit=TO),
            'add "customerId" to by, or read the records re-keyed: Derived(..., key="prod',
        ),
        (table(measures={"first": "min(cast('2026-01-01' as timestamp))"}, emit=TO), "TIMESTAMP has no Avro type"),
        (replace(NEWEST, emit=OTHER[0]), 'use Changes(topic="...")'),
        (replace(NEWEST, emit=OTHER[1]), 'use Changes(topic="...")'),
        (replace(NEWEST, history=True), "emit the changes of a second Latest without history"),
        (replace(NEWEST, by=["productId"]), "records of a row may be in several partitions"),
        (replace(NEWEST, emit=Changes("")), '.topic: "" does not fit'),
    ],
)
def test_a_wrong_emit_is_refused(of: Any, says: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        compiled(of)
    assert str(caught.value).startswith("assets/orders.py: per_customer.emit")
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_the_topic_is_part_of_the_version() -> None:
    for of in (table(), NEWEST):
        versions = [compiled(replace(of, emit=emit)).version for emit in (None, TO, Changes("x"), Changes("x", 2))]
        assert len(set(versions)) == 4
    windowed = table(window=Tumbling("1 hour"))
    assert compiled(replace(windowed, emit=TO)).version != compiled(replace(windowed, emit=Final(TO.topic))).version


@pytest.mark.parametrize("window", [None, Session("1 minute"), Count(3), Hopping("10 minutes", "4 minutes")])
def test_its_records_have_the_columns_of_the_view(window: Any) -> None:
    made = program(table(window=window, emit=TO))
    (one,) = made.tables
    assert one.changes is not None and one.final is None
    shape = one.changes.topic.shape
    assert [field.name for field in shape.fields] == [column.name for column in one.columns]
    assert [field.name for field in shape.fields if field.nullable] == ["orders", "total"]
    assert [(outlet.kind, outlet.writer, outlet.topic) for outlet in made.outlets] == [
        ("changes", one.version_id, "customers-now")
    ]
