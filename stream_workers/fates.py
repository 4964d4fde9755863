"""The last fates: which of the records that passed every condition are late, and which are applied.

A record is late when its row was final by the records at strictly earlier offsets of its partition (engine rule C1):
a function of the log alone, however it is cut into batches. Tables count late records as they apply them, or drop them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stream_workers.batch import Batch, no_offsets
from topology.program import TableProgram

NEVER = np.iinfo(np.int64).min
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Taken:
    """What a table takes of a batch. late, duplicate: indices in the batch of the records it leaves out as such.

    late_taken: where the table emits final rows, those of the records it takes that may change one.
    """

    applied: int
    min_event: int | None
    max_event: int | None
    late_applied: int = 0
    late: Indices = field(default_factory=no_offsets)
    duplicate: Indices = field(default_factory=no_offsets)
    late_taken: Indices = field(default_factory=no_offsets)


@dataclass(frozen=True)
class Passed:
    """The records that passed, by offset: index in the batch, event time, when their row is final, watermark before."""

    at: Indices
    event: Indices
    final: Indices
    before: Indices


def take(
    connection: duckdb.DuckDBPyConnection,
    table: TableProgram,
    batch: Batch,
    counts: Mapping[str, int | None],
    watermark: int | None,
    lifted: int | None,
) -> Taken:
    """Decide over the records that `routed` has as applied; those that are dropped are not applied in it any more.

    counts: of `routed`; watermark: before the batch, lifted: after it.
    """
    p = table.prefix
    whole = Taken(counts[f"{p}applied"] or 0, counts[f"{p}min_event"], counts[f"{p}max_event"])
    final, any_may = table.final, table.final is not None and (batch.corrected or table.final.idles)
    every = np.arange(batch.records, dtype=np.int64) if any_may else no_offsets()
    least = counts[f"{p}min_final"]
    reopens = final.reopens_micros if final else 0
    if least is None or lifted is None or least - reopens > lifted or batch.corrected:
        return replace(whole, late_taken=every)  # nothing else can be late, or change a final row: no look at each
    seen = passed(connection, table, batch, watermark)
    late = seen.final <= seen.before
    kept = seen.at[seen.final - reopens <= seen.before] if final and not any_may else every
    if not table.drops_late:
        return replace(whole, late_applied=int(np.count_nonzero(late)), late_taken=kept)
    kept = np.setdiff1d(kept, seen.at[late])
    if not late.any():
        return replace(whole, late_taken=kept)
    leave_out(connection, table, seen.at[late])
    event = seen.event[~late]
    if not event.size:
        return Taken(0, None, None, late=seen.at[late])
    return Taken(event.size, int(event.min()), int(event.max()), late=seen.at[late], late_taken=kept)


def passed(connection: duckdb.DuckDBPyConnection, table: TableProgram, batch: Batch, watermark: int | None) -> Passed:
    """The records that `routed` has as applied; watermark: before the batch. Without windows none is ever final."""
    p, final_sql = table.prefix, table.final_sql or str(np.iinfo(np.int64).max)
    seen = connection.sql(
        f"SELECT _i, event_time, topic_reason IS NULL AS valid, {final_sql} AS final, {p}applied AS applied FROM routed"
    ).fetchnumpy()
    at, valid = np.asarray(seen["_i"]), np.asarray(seen["valid"], dtype=bool)
    applied, event = np.asarray(seen["applied"], dtype=bool), np.asarray(seen["event_time"])
    before = watermarks(batch, watermark, at[valid], event[valid])[at[applied]]
    final = np.asarray(seen["final"])[applied].astype(np.int64)
    return Passed(at[applied], event[applied].astype(np.int64), final, before)


def watermarks(batch: Batch, watermark: int | None, at: Indices, event: Indices) -> Indices:
    """The watermark before each record of the batch, `NEVER` for none; at, event: the valid records' indices and times.

    It is made of valid records and markers at strictly earlier offsets. watermark: before the batch.
    """
    times = np.full(batch.records + 1, NEVER, dtype=np.int64)
    times[0] = NEVER if watermark is None else watermark
    times[at + 1] = event
    for marker in batch.markers:
        if marker.event_time is not None:
            times[marker.index + 1] = marker.event_time
    before: Indices = np.maximum.accumulate(times)[:-1]
    return before


def leave_out(connection: duckdb.DuckDBPyConnection, table: TableProgram, at: Indices) -> None:
    """These records of `routed` are not applied; its rows stay where they are."""
    connection.register("left_out", pa.table({"_i": at}))
    connection.execute(f"UPDATE routed SET {table.prefix}applied = false WHERE _i IN (SELECT _i FROM left_out)")
