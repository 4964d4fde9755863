"""The outbox: records that a transaction decided to send, numbered without gaps by its writer, until Kafka has them.

The number comes from the writer's own row, which its transaction has locked: one writer, no gaps, no shared sequence.
A writer is the closer of a table version, or a shard of a pipeline.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from ledger.connection import Connection
from ledger.sql import sql

CLOSER = -1  # the writer that is no shard
UNPUBLISHED = 100_000  # records; while so many wait for Kafka their writer adds none (engine rule F5)

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Record:
    """A record to send."""

    key: bytes | None
    payload: bytes | None
    headers: Headers = ()


@dataclass(frozen=True)
class Unsent(Record):
    """A record of the outbox."""

    seq: int = 0


def add(db: Connection, writer: str, shard: int, topic: str, seq: int, records: Iterable[Record]) -> int:
    """Append records after number `seq`, inside the caller's transaction; the last number given."""
    with (
        db.cursor() as cursor,
        cursor.copy("copy ledger.outbox (writer, shard, seq, topic, key, payload, headers) from stdin") as copy,
    ):
        for one in records:
            seq += 1
            copy.write_row((writer, shard, seq, topic, one.key, one.payload, _json(one.headers)))
    return seq


def unsent(db: Connection, writer: str, shard: int, after: int, most: int) -> list[Unsent]:
    """The next records after number `after`, in order."""
    given = {"writer": writer, "shard": shard, "after": after, "most": most}
    return [
        Unsent(key, payload, tuple((name, value) for name, value in headers), seq)
        for seq, key, payload, headers in db.execute(sql("outbox_unsent"), given)
    ]


def _json(headers: Headers) -> str:
    """Postgres holds every character but U+0000."""
    if not headers:
        return "[]"
    clean = [[part.replace("\0", "\N{REPLACEMENT CHARACTER}") for part in header] for header in headers]
    return json.dumps(clean)
