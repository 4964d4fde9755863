"""The closer's transaction: which rows are final by now, and the records that say so, all or nothing.

1. `lock`: compare the epoch of the closer's own row and keep it; what follows has one writer.
2. Read how far every partition has come. W is the smallest watermark: a batch that commits later belongs to a partition
   whose watermark is W or more already, so none of its records is in time for a window that ends by W less lateness.
   Where idle partitions hold nothing back, batches name every row they change, for any may be final.
3. *Then* read rows: those that were final and changed since, those that became final, and when every partition has
   ended, those that only an end-of-input marker closes. Rows that are as they were emitted last are left out. At last
   those that are final no more: sessions that others have swallowed. Of windows of records, step 2 does not matter.
4. Remember what is emitted, number the records, put them into the outbox.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from ledger import Connection, closings, outbox
from ledger.closings import Input
from ledger.outbox import CLOSER, Record
from stream_workers.emit.encoding import encoded
from stream_workers.emit.steps import EmitStep
from topology.program import FinalProgram, TableProgram

_ROWS = 5_000  # held as Python objects at a time
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EVER = "-infinity"

Hit = Callable[[EmitStep], None]


@dataclass(frozen=True)
class Closed:
    """What one transaction did: records put into the outbox, its last number, and whether there is more to do."""

    records: int
    outbox_seq: int
    more: bool


def close(
    db: Connection, hit: Hit, table: TableProgram, partitions: int, epoch: int, schema_id: int, most: int
) -> Closed:
    """Decide once; nothing while `most` records or more are not published yet.

    Raises `Fenced`, and psycopg errors after which it is not known whether the transaction committed.
    """
    final, version = final_of(table), table.version_id
    with db.transaction():
        at = closings.lock(db, version, epoch)
        hit(EmitStep.LOCKED)
        if at.outbox_seq - at.published_seq >= most:
            return Closed(0, at.outbox_seq, more=False)
        found = closings.inputs(db, version)
        after = _moment(at.closed_through)
        db.execute(final.stage_ddl.encode())
        full = db.execute(final.full_sql.encode()).fetchone() == (True,)
        changed = db.execute(final.changed_sql.encode(), {"after": after}).rowcount
        due = None if final.by_offset else final_by(found, partitions, table.lateness_micros)
        to, more = at, False
        if due is not None and (at.closed_through is None or due > at.closed_through):
            until, more = _bounded(db, final, after, due)
            changed += db.execute(final.closed_sql.encode(), {"after": after, "until": _moment(until)}).rowcount
            to, after = replace(to, closed_through=until), _moment(until)
        ended = [one.ended for one in found if one.ended is not None]
        mark = sum(one.moved for one in found)
        if not more and due is not None and len(ended) == partitions and mark != at.ended_mark:
            given = {"after": after, "until": _moment(min(ended))}
            changed += db.execute(final.ended_sql.encode(), given).rowcount
            to = replace(to, ended_mark=mark)
        if final.gone_sql:
            changed += db.execute(final.gone_sql.encode(), {"after": after}).rowcount
        hit(EmitStep.STAGED)
        if changed:
            db.execute(final.keep_sql.encode())
            hit(EmitStep.KEPT)
            to = replace(to, outbox_seq=_send(db, final, version, at.outbox_seq, schema_id))
        if to != at:
            closings.move(db, version, to)
        hit(EmitStep.OUTBOXED)
    hit(EmitStep.CLOSED)
    return Closed(to.outbox_seq - at.outbox_seq, to.outbox_seq, more or full)


def final_of(table: TableProgram) -> FinalProgram:
    """How a table emits."""
    assert table.final is not None  # the closer has tables that emit, and no others
    return table.final


def final_by(found: Sequence[Input], partitions: int, lateness: int) -> int | None:
    """Windows that end at or before this are final; None while a partition has shown no event time.

    Idle partitions are not asked; where all are, the furthest one is.
    """
    if len(found) < partitions:
        return None
    asked = [one.watermark for one in found if not one.idle]
    known = [one.watermark for one in found if one.watermark is not None and not (asked and one.idle)]
    if not known or (asked and len(known) < len(asked)):
        return None
    return (min(known) if asked else max(known)) - lateness


def _bounded(db: Connection, final: FinalProgram, after: str, due: int) -> tuple[int, bool]:
    """Up to where one transaction goes, which is before `due` where that would be too many rows."""
    row = db.execute(final.bound_sql.encode(), {"after": after}).fetchone()
    bound = due if row is None else (row[0] - _EPOCH) // timedelta(microseconds=1)
    return (bound, True) if bound < due else (due, False)


def _send(db: Connection, final: FinalProgram, version: str, seq: int, schema_id: int) -> int:
    with db.cursor(name="emitted") as cursor:
        cursor.execute(final.read_sql.encode())
        while rows := cursor.fetchmany(_ROWS):
            seq = outbox.add(db, version, CLOSER, final.topic.name, seq, _records(final, schema_id, rows))
    return seq


def _records(final: FinalProgram, schema_id: int, rows: Sequence[tuple[Any, ...]]) -> list[Record]:
    """The records; rows: record key, columns, of sessions whether they are withdrawn, revision."""
    values = encoded(final.topic, schema_id, [row[1:] for row in rows])
    return [Record(str(row[0]).encode(), value) for row, value in zip(rows, values, strict=True)]


def _moment(micros: int | None) -> str:
    """As text that Postgres reads exactly."""
    return _EVER if micros is None else (_EPOCH + timedelta(microseconds=micros)).isoformat()
