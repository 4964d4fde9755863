"""What the tables of a topic have counted, in one snapshot, for those who recount the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ledger.connection import Connection
from ledger.sql import sql


@dataclass(frozen=True)
class Tail:
    """The last part of a partition that the batch index covers without a hole: offsets, and records consumed in it."""

    from_offset: int
    to_offset: int
    records: int


@dataclass(frozen=True)
class Counted:
    """One live table version in one partition. tail: see `snapshot`; None where none was asked for, or there is none.

    next_offset - first_offset = consumed + gaps; control records are part of consumed.
    """

    table: str
    table_version: str
    topic_id: str
    partition: int
    first_offset: int
    next_offset: int
    consumed: int
    control: int
    gaps: int
    tail: Tail | None = None


def snapshot(db: Connection, topic: str, tables: Sequence[str], floors: Mapping[int, int]) -> list[Counted]:
    """Where the tables stand in a topic, by table and partition; all of one moment.

    floors: the first offset to be read by partition. A table that began before it gets the tail from the first batch
    index entry at or after the floor; there is none when the last entry begins before it.
    """
    given = {
        "topic": topic,
        "tables": list(tables),
        "partitions": list(floors),
        "floors": [floors[partition] for partition in floors],
    }
    with db.transaction():  # one statement: one snapshot, whatever commits meanwhile
        rows = db.execute(sql("counted"), given).fetchall()
    return [replace(Counted(*row[:9]), tail=Tail(*row[9:]) if row[9] is not None else None) for row in rows]
