"""The transaction of a batch: compare-and-set first, then rows, dead letters and batch index, all or nothing."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.csv as arrow_csv

from headrace.failpoint import Failpoints
from ledger import Connection, dead_letters, outboxes, skipped, transaction
from ledger.dead_letters import DeadLetter
from stream_workers import dedup
from stream_workers.batch import Batch
from stream_workers.emit import changes, transitions
from stream_workers.emit.changes import sends
from stream_workers.emit.letters import send
from stream_workers.emit.steps import AlertStep, ChangeStep, LetterStep
from stream_workers.lookups import vector_of
from stream_workers.opening import Outbox, ShardState, TableState
from stream_workers.routing import Routed, refused_by_postgres
from stream_workers.steps import Step
from topology.program import Outlet, Part, TableProgram

_NO_HEADER = arrow_csv.WriteOptions(include_header=False)


def commit(
    db: Connection,
    failpoints: Failpoints,
    batch: Batch,
    state: ShardState,
    programs: Mapping[str, TableProgram],
    routed: Mapping[str, Routed],
) -> dict[str, TableState]:
    """Write one batch in one transaction; returns the table states to adopt.

    Raises `Fenced` (another worker owns the shard), `Poison` (Postgres refuses a row), `OutboxFull` (its dead letters
    have to wait), or psycopg errors after which it is not known whether the transaction committed.
    """
    adopted: dict[str, TableState] = {}
    refused = letters(batch, routed)
    boxes = _needed(state, programs, routed, letters=bool(refused))
    with db.transaction():
        failpoints.hit(Step.BEGUN)
        moves = {version: move_of(batch, state.tables[version], found) for version, found in sorted(routed.items())}
        for move in moves.values():
            transaction.advance(db, move)
        sent = {writer: outboxes.lock(db, box.claim) for writer, box in boxes.items()}
        failpoints.hit(Step.ADVANCED)
        merged = {v: merge(db, failpoints, programs[v], batch.shard, found) for v, found in sorted(routed.items())}
        for version, move in moves.items():
            _remember(db, programs[version], move, routed[version].fresh)
        failpoints.hit(Step.MERGED)
        for writer, box in boxes.items():
            sent[writer] = _send(db, failpoints, box, sent[writer], batch, programs, routed, merged)
        dead_letters.record(db, refused)
        failpoints.hit(Step.DEAD_LETTERED)
        for version, move in moves.items():
            table = state.tables[version]
            entry = transaction.index(
                db, move, merged[version].days, table.index_entry, vector_of(programs[version], batch)
            )
            adopted[version] = replace(
                table,
                next_offset=batch.to_offset,
                watermark=move.watermark,
                ended=move.ended,
                leader_epoch=batch.leader_epoch,
                index_entry=entry,
            )
        failpoints.hit(Step.INDEXED)
    failpoints.hit(Step.COMMITTED)
    state.sent |= sent
    return adopted


def _needed(
    state: ShardState, programs: Mapping[str, TableProgram], routed: Mapping[str, Routed], *, letters: bool
) -> dict[str, Outbox]:
    """The outboxes that a batch puts something into, in the order in which they are locked."""

    def needs(outlet: Outlet) -> bool:
        if outlet.kind == "letters":
            return letters
        found = routed.get(outlet.table)
        if found is None:
            return False
        if outlet.kind == "alerts":
            return found.versions is not None and found.versions.num_rows > 0
        return sends(programs[outlet.table], found)

    return {writer: box for writer, box in sorted(state.outboxes.items()) if needs(box.outlet)}


def _send(
    db: Connection,
    failpoints: Failpoints,
    box: Outbox,
    seq: int,
    batch: Batch,
    programs: Mapping[str, TableProgram],
    routed: Mapping[str, Routed],
    merged: Mapping[str, Merged],
) -> int:
    """Put what a batch sends through one outbox into it, after number `seq`; the last number."""
    outlet = box.outlet
    if outlet.kind == "letters":
        seq = send(db, box.claim, outlet.topic, seq, batch, routed)
        failpoints.hit(LetterStep.NUMBERED)
    elif outlet.kind == "changes":
        seq = changes.send(db, box, seq, programs[outlet.table])
        failpoints.hit(ChangeStep.NUMBERED)
    else:
        versions, before = routed[outlet.table].versions, merged[outlet.table].before
        seq = transitions.send(db, box, seq, programs[outlet.table], batch, versions, before)
        failpoints.hit(AlertStep.NUMBERED)
    return seq


def move_of(batch: Batch, table: TableState, found: Routed) -> transaction.Advance:
    """How a table moves over the batch."""
    return transaction.Advance(
        table_version=table.version_id,
        shard=batch.shard,
        epoch=table.epoch,
        topic=batch.topic,
        partition=batch.partition,
        from_offset=batch.from_offset,
        to_offset=batch.to_offset,
        leader_epoch=batch.leader_epoch,
        consumed=batch.records,  # counted at fetch, never from its parts: Postgres compares the two
        applied=found.applied,
        dead_lettered=len(found.refusals),
        filtered=found.filtered,
        control=found.control,
        late=found.late.size,
        duplicate=found.duplicate.size,
        late_applied=found.late_applied,
        watermark_before=table.watermark,
        watermark=found.watermark,
        ended=found.ended if batch.records else table.ended,
        min_event=found.min_event,
        max_event=found.max_event,
        level=batch.level,
        skipped=skipped.encoded(found.late, found.duplicate),
    )


@dataclass(frozen=True)
class Merged:
    """What a merge found: UTC days of the windows that changed; rows as they were before, where alerts ask for them."""

    days: tuple[int, ...]
    before: Sequence[tuple[Any, ...]]


def merge(db: Connection, failpoints: Failpoints, program: TableProgram, shard: int, found: Routed) -> Merged:
    """Merge what was applied into the table's state, inside the caller's transaction; `Poison` as `commit`.

    The closer of a table that emits learns in the same transaction which of its rows were changed late.
    """
    days, before = set(found.days), list[tuple[Any, ...]]()
    asked = program.newest.before_sql if program.newest and found.versions is not None else None
    for part, rows in zip(program.parts, found.rows, strict=bool(found.rows)):
        if rows.num_rows:
            changed, known = _merge(db, failpoints, program, part, shard, rows, asked)
            days |= changed
            before += known
    if program.final and found.changed is not None:
        with db.cursor() as cursor, cursor.copy(program.final.late_copy_sql.encode()) as copy:
            copy.write(_csv(found.changed))
    return Merged(tuple(sorted(days)), before)


def _merge(
    db: Connection,
    failpoints: Failpoints,
    program: TableProgram,
    part: Part,
    shard: int,
    rows: pa.Table,
    asked: str | None,
) -> tuple[set[int], list[tuple[Any, ...]]]:
    """Merge the rows of one part; the UTC days that its statements name, and what is `asked` of before."""
    days, before = set[int](), list[tuple[Any, ...]]()
    try:
        with db.cursor() as cursor:
            cursor.execute(part.stage_ddl.encode())
            with cursor.copy(part.copy_sql.encode()) as copy:
                copy.write(_csv(rows))
            failpoints.hit(Step.STAGED)
            if asked:
                before = cursor.execute(asked.encode(), {"shard": shard}).fetchall()
            for statement in part.merge_sql:
                cursor.execute(statement.encode(), {"shard": shard, "version_id": program.version_id})
                if cursor.description:
                    days |= {int(day) for (day,) in cursor}
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        raise refused_by_postgres(program.version_id, error) from error
    return days, before


def _remember(db: Connection, program: TableProgram, move: transaction.Advance, fresh: pa.Table | None) -> None:
    """Write which ids a table has had that leaves out duplicates; `Poison` as `commit`."""
    if program.ids is None:
        return
    try:
        dedup.remember(db, program.ids, move.shard, fresh, move.watermark_before, move.watermark)
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        raise refused_by_postgres(program.version_id, error) from error


def _csv(rows: pa.Table) -> memoryview:
    text = io.BytesIO()
    arrow_csv.write_csv(rows, text, _NO_HEADER)
    return text.getbuffer()


def letters(batch: Batch, routed: Mapping[str, Routed]) -> list[DeadLetter]:
    """The refused records of all tables."""
    refused = []
    for version, found in routed.items():
        for refusal in found.refusals:
            envelope = batch.envelope(refusal.index)
            refused.append(
                DeadLetter(
                    topic=batch.topic,
                    partition=batch.partition,
                    offset=int(batch.offsets[refusal.index]),
                    table_version=version,
                    reason=refusal.reason,
                    detail=refusal.detail,
                    payload=batch.payloads[refusal.index],
                    key=envelope.key,
                    headers=envelope.headers,
                    kafka_timestamp=batch.moment(refusal.index),
                )
            )
    return refused
