"""Changed rows on their way to the topic of a table that emits its changes: through its outbox, with the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg

from ledger import Connection, outbox, outboxes
from ledger.outbox import Record
from stream_workers.emit.encoding import encoded
from stream_workers.opening import Outbox
from stream_workers.refused import PAYLOAD_BYTES
from stream_workers.routing import Poison, Routed, refused_by_postgres
from topology.program import ChangesProgram, TableProgram

_ROWS = 5_000  # held as Python objects at a time


def sends(program: TableProgram, found: Routed) -> bool:
    """Whether a transaction that merges this changes rows that are emitted."""
    return program.changes is not None and bool(found.rows) and found.rows[0].num_rows > 0


def send(db: Connection, box: Outbox, seq: int, program: TableProgram) -> int:
    """Put the rows that the merge has changed into the outbox, after number `seq`; the last number.

    In the transaction of the merge, after `outboxes.lock`. Raises `Poison` where Kafka or Python would not take a row.
    """
    assert program.changes is not None  # others have no such outbox
    try:
        with db.cursor(name="changed") as cursor:
            cursor.execute(program.changes.rows_sql.encode(), {"shard": box.claim.shard})
            while rows := cursor.fetchmany(_ROWS):
                records = _records(program.changes, program.version_id, box.schema_id, rows)
                seq = outbox.add(db, box.claim.writer, box.claim.shard, program.changes.topic.name, seq, records)
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        raise refused_by_postgres(program.version_id, error) from error
    outboxes.move(db, box.claim, seq)
    return seq


def _records(changes: ChangesProgram, version: str, schema_id: int, rows: Sequence[tuple[Any, ...]]) -> list[Record]:
    """The records; rows: record key, whether there is a row, columns."""
    values = iter(encoded(changes.topic, schema_id, [row[2:] for row in rows if row[1]]))
    records = [Record(str(key).encode(), next(values) if there else None) for key, there, *_ in rows]
    for one in records:
        size = len(one.key or b"") + len(one.payload or b"")
        if size > PAYLOAD_BYTES:
            raise Poison(version, "too_large", f"its row is {size:,} bytes, and Kafka's records have {PAYLOAD_BYTES:,}")
    return records
