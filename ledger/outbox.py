"""The outbox: records that a transaction decided to send, numbered without gaps by its writer, until Kafka has them.

The number comes from the writer's own row, which its transaction has locked: one writer, no gaps, no shared sequence.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ledger.connection import Connection
from ledger.sql import sql

CLOSER = -1  # the writer that is no shard


@dataclass(frozen=True)
class Unsent:
    """A record of the outbox."""

    seq: int
    key: bytes | None
    payload: bytes | None


def add(
    db: Connection,
    table_version: str,
    writer: int,
    topic: str,
    seq: int,
    records: Iterable[tuple[bytes | None, bytes | None]],
) -> int:
    """Append records (key, payload) after number `seq`, inside the caller's transaction; the last number given."""
    with (
        db.cursor() as cursor,
        cursor.copy("copy ledger.outbox (table_version, shard, seq, topic, key, payload) from stdin") as copy,
    ):
        for key, payload in records:
            seq += 1
            copy.write_row((table_version, writer, seq, topic, key, payload))
    return seq


def unsent(db: Connection, table_version: str, writer: int, after: int, most: int) -> list[Unsent]:
    """The next records after number `after`, in order."""
    given = {"table_version": table_version, "shard": writer, "after": after, "most": most}
    return [Unsent(*row) for row in db.execute(sql("outbox_unsent"), given)]
