"""Duplicates: records whose id their table has had, and remembers (engine rule C10).

An id is remembered from the record that brought it, until the watermark of its partition is the horizon beyond that
record's event time. A record is a duplicate when its id is remembered at the watermark that it finds, made of strictly
earlier offsets: a function of the log, however it is cut into batches. A duplicate, a filtered or a late record brings
no id, and neither does a correction: it is decided between any two batches.

What is remembered is in Postgres only, written with the batch and looked up once for each batch, so that no memory can
be ahead of a transaction that failed (engine rule B3).
"""

from __future__ import annotations

import io
from collections.abc import Callable

import duckdb
import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.csv as arrow_csv

from ledger import Connection
from stream_workers import fates
from stream_workers.batch import Batch
from stream_workers.fates import NEVER, Indices, Taken
from topology.postgres import BY_INDEX
from topology.program import Ids, TableProgram

# Forgotten ids are removed when the watermark has gone on by such a part of the horizon, and not with every batch.
_PARTS = 8

_NO_HEADER = arrow_csv.WriteOptions(include_header=False)


# Until which watermark the table remembers each of these ids, which have no equals; `NEVER` where it does not.
Look = Callable[[TableProgram, pa.Table], Indices]


def take(
    connection: duckdb.DuckDBPyConnection,
    table: TableProgram,
    batch: Batch,
    taken: Taken,
    watermark: int | None,
    lifted: int | None,
    look: Look | None,
) -> tuple[Taken, pa.Table | None]:
    """Decide over the records that are neither filtered nor late; duplicates are not applied in `routed` any more.

    watermark: before the batch, lifted: after it. Returned with it: the ids to remember, `n` being until when.
    """
    ids = table.ids
    if ids is None or batch.corrected or not taken.applied:
        return taken, None
    assert look is not None, f"{table.name} leaves out duplicates"
    passed = fates.passed(connection, table, batch, watermark)
    given = connection.sql(ids.rows_sql).to_arrow_table()
    codes, first = _codes(given)
    until = look(table, _numbered(given.take(first), np.arange(first.size)))
    again, until = _again(codes, passed, until, ids.horizon_micros)
    if again.any():
        fates.leave_out(connection, table, passed.at[again])
    brought = np.unique(codes[~again])
    lasting = brought[until[brought] > (NEVER if lifted is None else lifted)]
    fresh = _numbered(given.take(first[lasting]), until[lasting])
    event = passed.event[~again]
    return (
        Taken(
            applied=event.size,
            min_event=int(event.min()) if event.size else None,
            max_event=int(event.max()) if event.size else None,
            late_applied=int(np.count_nonzero((passed.final <= passed.before) & ~again)),
            late=taken.late,
            duplicate=passed.at[again],
            late_taken=np.setdiff1d(taken.late_taken, passed.at[again]),
        ),
        fresh,
    )


def _numbered(ids: pa.Table, numbers: Indices) -> pa.Table:
    """Ids as they are staged."""
    return ids.add_column(0, "n", pa.array(numbers, pa.int64()))


def _codes(ids: pa.Table) -> tuple[Indices, Indices]:
    """A number for each record, the same where ids are, and for each number the first record that has it."""
    codes: Indices = np.zeros(ids.num_rows, np.int64)
    for column in ids.columns:
        values = column.combine_chunks().dictionary_encode()
        codes = codes * len(values.dictionary) + values.indices.to_numpy()
        _, codes = np.unique(codes, return_inverse=True)  # so that the next product stays small
    _, first = np.unique(codes, return_index=True)
    return codes, first


def _again(codes: Indices, passed: fates.Passed, until: Indices, horizon: int) -> tuple[Indices, Indices]:
    """Which records are duplicates, and until when each id is remembered after them."""
    again = np.zeros(codes.size, bool)
    doubtful = (np.bincount(codes, minlength=until.size)[codes] > 1) | (until[codes] != NEVER)
    lasts = until.copy()
    lasts[codes[~doubtful]] = passed.event[~doubtful] + horizon
    for index in np.flatnonzero(doubtful):  # one after the other: whether an id is remembered depends on the one before
        code = codes[index]
        if passed.before[index] < lasts[code]:
            again[index] = True
        else:
            lasts[code] = passed.event[index] + horizon
    return again, lasts


# -- Postgres


def look_up(db: Connection, shard: int) -> Look:
    """Looks ids up in what a shard's tables remember; raises psycopg's errors."""

    def look(table: TableProgram, ids: pa.Table) -> Indices:
        assert table.ids is not None
        until = np.full(ids.num_rows, NEVER, np.int64)
        with db.transaction(), db.cursor() as cursor:
            _stage(cursor, table.ids, ids)
            cursor.execute(BY_INDEX.encode())
            cursor.execute(table.ids.seen_sql.encode(), {"shard": shard})
            found = np.array(cursor.fetchall(), np.int64).reshape(-1, 2)
        until[found[:, 0]] = found[:, 1]
        return until

    return look


def remember(
    db: Connection, ids: Ids, shard: int, fresh: pa.Table | None, before: int | None, watermark: int | None
) -> None:
    """Write the ids that a batch brings and remove those it makes forgotten, in the caller's transaction.

    before, watermark: before and after the batch. Raises psycopg's errors.
    """
    with db.cursor() as cursor:
        if watermark is not None and _steps(before, ids) != _steps(watermark, ids):
            cursor.execute(BY_INDEX.encode())
            cursor.execute(ids.forget_sql.encode(), {"shard": shard, "watermark": watermark})
        if fresh is not None and fresh.num_rows:
            _stage(cursor, ids, fresh)
            cursor.execute(ids.register_sql.encode(), {"shard": shard})


def _steps(watermark: int | None, ids: Ids) -> int | None:
    return None if watermark is None else watermark // max(1, ids.horizon_micros // _PARTS)


def _stage(cursor: psycopg.Cursor[tuple[object, ...]], ids: Ids, rows: pa.Table) -> None:
    text = io.BytesIO()
    arrow_csv.write_csv(rows, text, _NO_HEADER)
    cursor.execute(ids.stage_ddl.encode())
    with cursor.copy(ids.copy_sql.encode()) as copy:
        copy.write(text.getbuffer())
