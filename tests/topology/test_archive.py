"""Archives: what is refused when they load, and which records go to which day."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headrace.errors import DeclarationError
from tests.topology.declare import ORDERS, Bench, orders, schema_file, topic
from topology import Archive, EventTime, compile_pipeline
from topology.program import PipelineProgram


def program(archive: Archive) -> PipelineProgram:
    return compile_pipeline(archive.maker, archive.source, [archive], place="assets/shop.py")


def refused(**changes: Any) -> str:
    with pytest.raises(DeclarationError) as caught:
        program(Archive(**{"name": "orders_lake", "source": ORDERS, **changes}))
    message = str(caught.value)
    assert "\n" not in message and message.startswith("assets/shop.py: ")
    return message.removeprefix("assets/shop.py: ")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": "orders lake"}, 'orders lake: archive name "orders lake" does not fit; a letter, then letters'),
        ({"name": "pg_lake"}, 'pg_lake: names that start with "pg_" belong to Postgres; rename the archive'),
        ({"made_by": "a b"}, 'orders_lake.made_by: "a b" does not fit; use letters'),
        ({"at": "/data"}, 'orders_lake.at: "/data" is no address of a lake; write "s3://bucket/prefix" or "file:///'),
        ({"at": "s3://lake/../other"}, "is no address of a lake"),
        ({"at": "gs://lake"}, "is no address of a lake"),
        ({"roll_size": "64"}, 'orders_lake.roll_size: "64" is not a size; write a number and KB, MB or GB'),
        ({"roll_size": "2 GB"}, 'orders_lake.roll_size: "2 GB" is held in memory for each partition; use 1 KB to 1 GB'),
        ({"roll_after": "soon"}, "orders_lake.roll_after: "),
        ({"roll_after": "1 hour"}, 'orders_lake.fresh_within: "30 minutes" is not longer than roll_after, "1 hour"'),
        ({"max_lag": "1 minute"}, 'orders_lake.max_lag: "1 minute" is not longer than roll_after'),
    ],
)
def test_a_wrong_declaration_is_refused_in_one_line(changes: dict[str, Any], says: str) -> None:
    assert says in refused(**changes)


@pytest.mark.parametrize("column", ["_partition", "Date"])
def test_a_column_that_the_lake_has_for_itself(tmp_path: Path, column: str) -> None:
    schema = schema_file(tmp_path, {"name": column, "type": "string"}, {"name": "at", "type": "long"})
    found = topic(schema=schema, key=column, event_time=EventTime("at", "ms"), require={})
    assert f'its source has a column "{column}", which the lake has for itself; rename it' in refused(source=found)


def test_words_sizes_and_addresses_are_no_part_of_the_version() -> None:
    one = program(Archive("lake", ORDERS))
    two = program(Archive("lake", ORDERS, at="s3://lake", roll_size="1 MB", description="everything"))
    other = program(Archive("lake", topic(require={})))
    assert one.tables[0].version == two.tables[0].version != other.tables[0].version


def test_a_record_goes_to_the_day_of_its_event() -> None:
    found = Bench(
        program(Archive("lake", topic(not_before=None, max_ahead="1000000 days"))),
        orders(
            {"orderTimestamp": "2026-01-10T00:30:00+02:00"},
            {"orderAmount": -1.0},
            {"orderTimestamp": "1969-12-31T23:59:59Z"},
            {"orderTimestamp": "1970-01-01T00:00:00Z"},
        ),
    )
    assert found.aggregate().to_pylist() == [{"_i": 0, "_day": 20_462}, {"_i": 2, "_day": -1}, {"_i": 3, "_day": 0}]
    assert found.reasons() == [None, "require:positive_amount", None, None]
