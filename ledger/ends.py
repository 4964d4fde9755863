"""How far partitions reach, as last seen: what lag is measured with, without a look at Kafka."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from ledger.connection import Connection
from ledger.sql import sql


@dataclass(frozen=True)
class Unread:
    """Where reading of a partition stands.

    next_offset: of the slowest live table, None where none has read it yet. waiting_since: Kafka timestamp (seconds
    since 1970) of the oldest unread record as last known. is_read: a worker that lives reads it, and notes its end.
    """

    partition: int
    next_offset: int | None
    waiting_since: float | None
    is_read: bool


def unread(db: Connection, pipeline: str, topic: str, partitions: int, seconds: float) -> list[Unread]:
    """Every partition of a pipeline's topic; a worker lives that gave a sign of life in the last `seconds`."""
    given = {"pipeline": pipeline, "topic": topic, "partitions": partitions, "seconds": seconds}
    return [Unread(*row) for row in db.execute(sql("end_unread"), given)]


def see_end(
    db: Connection,
    pipeline: str,
    topic: str,
    partition: int,
    end_offset: int,
    waiting_since: float | None,
    low_offset: int | None = None,
    seen_ago: float = 0.0,
) -> None:
    """Note how far a partition reaches, as Kafka was asked `seen_ago` seconds ago.

    `waiting_since` (seconds since 1970) dates its oldest unread record. `low_offset`, the first record that is still
    kept, stays what it was when it is not given.
    """
    moment = None if waiting_since is None else datetime.fromtimestamp(waiting_since, UTC)
    db.execute(
        sql("end_seen"),
        {
            "pipeline": pipeline,
            "topic": topic,
            "partition": partition,
            "end_offset": end_offset,
            "next_timestamp": moment,
            "low_offset": low_offset,
            "seen_ago": seen_ago,
        },
    )
