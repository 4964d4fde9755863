"""What cannot be emitted is refused, with a remedy; emitting makes another version of a table."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.errors import DeclarationError
from tests.topology.declare import program, table
from topology import Count, Final, Hopping, Session, Tumbling

WINDOW = Tumbling("15 minutes")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"emit": Final("sales")}, "a row without window is never final; add a window, or leave emit out"),
        (
            {"window": Session("1 minute"), "emit": Final("sales"), "measures": {"Withdrawn": "count(*)"}},
            'column "Withdrawn" has the name of what says that a session is gone; rename it',
        ),
        ({"window": WINDOW, "emit": "sales"}, 'use Final(topic="...")'),
        ({"window": WINDOW, "emit": Final("a topic")}, '.topic: "a topic" does not fit'),
        ({"window": WINDOW, "emit": Final("sales", partitions=-1)}, ".partitions: -1 is too few"),
        ({"window": WINDOW, "emit": Final("sales", retention="long")}, '.retention: "long" is not a duration'),
        ({"window": WINDOW, "emit": Final("sales", idle_after="soon")}, '.idle_after: "soon" is not a duration'),
        ({"window": WINDOW, "emit": Final("sales", idle_after="0s")}, '.idle_after: "0s" is less than a second'),
        ({"window": Count(3), "emit": Final("sales", idle_after="1 minute")}, "no partition holds a window of records"),
        ({"window": WINDOW, "emit": Final("sales"), "measures": {"Revision": "count(*)"}}, "the name of the revision"),
        (
            {"window": WINDOW, "emit": Final("sales"), "measures": {"first": "min(cast('2026-01-01' as timestamp))"}},
            "TIMESTAMP has no Avro type",
        ),
    ],
)
def test_a_wrong_emit_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        program(table(**changes))
    assert str(caught.value).startswith("assets/orders.py: per_customer.emit")
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_the_topic_is_part_of_the_version_and_its_retention_is_not() -> None:
    def version(emit: Final | None) -> str:
        return program(table(window=WINDOW, emit=emit)).tables[0].version

    assert len({version(None), version(Final("sales")), version(Final("others")), version(Final("sales", 2))}) == 4
    assert version(Final("sales", retention="7 days")) == version(Final("sales"))
    assert version(Final("sales", idle_after="7 days")) != version(Final("sales"))


def test_its_records_have_the_columns_of_the_table_and_the_revision() -> None:
    (made,) = program(table(window=Hopping("10 minutes", "4 minutes"), emit=Final("sales.final"))).tables
    assert made.final is not None
    topic = made.final.topic
    kinds = {field.name: (field.kind, field.nullable) for field in topic.shape.fields}
    assert kinds == {
        "customerId": ("string", False),
        "windowStart": ("timestamp-micros", False),
        "windowEnd": ("timestamp-micros", False),
        "orders": ("long", True),
        "total": ("decimal", True),
        "revision": ("int", False),
    }
    assert (topic.name, topic.partitions, topic.key) == ("sales.final", 1, "customerId")


@pytest.mark.parametrize(
    ("window", "names"),
    [
        (Session("1 minute"), ["customerId", "windowStart", "windowEnd", "orders", "total", "withdrawn", "revision"]),
        (Count(3), ["customerId", "windowNumber", "windowRecords", "windowEnd", "orders", "total", "revision"]),
    ],
)
def test_sessions_may_be_withdrawn_and_windows_of_records_end(window: Session | Count, names: list[str]) -> None:
    (made,) = program(table(window=window, emit=Final("sales"))).tables
    assert made.final is not None
    fields = made.final.topic.shape.fields
    assert [field.name for field in fields] == names
    assert {field.name for field in fields if field.nullable} == {"orders", "total"}
    assert [column.name for column in made.columns] == [n for n in names if n in {c.name for c in made.columns}]
    assert made.final.topic.event_time.column == "windowEnd"
    assert made.final.topic.withdraws is isinstance(window, Session)
