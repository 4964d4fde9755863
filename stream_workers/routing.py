"""One fate per record and table, and the rows that the applied ones add up to.

Order of fates (engine rule B10): undecodable, invalid, (watermark), filtered, late, duplicate, applied. The SQL comes
from the declaration; nothing here changes Postgres, and nothing is carried over: the result is a pure function of the
batch, the watermark before it and, for tables that leave out duplicates, the ids they remember.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import duckdb
import numpy as np
import psycopg
import pyarrow as pa

from stream_workers import dedup, fates, tombstones
from stream_workers.batch import Batch, Offsets, no_offsets
from topology import duck
from topology.program import PipelineProgram, TableProgram
from topology.window import Hopping, Session

_DAY = 86_400_000_000

# Errors that a record can cause. Any other (out of memory, an invalidated database) is no record's fault.
_OF_THE_DATA = (duckdb.DataError, duckdb.InvalidInputException, duckdb.ConstraintException)


class Poison(Exception):
    """A record makes a batch fail. `version_id` is None when it concerns every table."""

    def __init__(self, version_id: str | None, reason: str, detail: str) -> None:
        super().__init__(f"{version_id or 'all tables'}: {reason}: {detail}")
        self.version_id, self.reason, self.detail = version_id, reason, detail


def refused_by_postgres(version_id: str, error: psycopg.Error) -> Poison:
    """The poison that Postgres named."""
    if error.sqlstate is None:  # psycopg could not read a value
        return Poison(version_id, f"rejected:{type(error).__name__}", str(error))
    return Poison(version_id, f"rejected:{error.sqlstate}", error.diag.message_primary or "")


@dataclass(frozen=True)
class Refusal:
    """A record that ends as a dead letter: its index in the batch and why."""

    index: int
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Routed:
    """What a batch means for one table: `rows` per part, empty where none was applied. Times in microseconds.

    late, duplicate: offsets of the records that were left out as such. fresh: ids to remember. versions: of the table's
    rows, all that the batch has, where there are alerts on them; a correction, which comes at any time, has none.
    """

    applied: int
    filtered: int
    control: int
    refusals: tuple[Refusal, ...]
    late_applied: int
    watermark: int | None
    ended: int | None
    min_event: int | None
    max_event: int | None
    rows: tuple[pa.Table, ...]
    days: tuple[int, ...] = ()  # UTC days of the windows that `rows` change, where these alone say which
    late: Offsets = field(default_factory=no_offsets)
    duplicate: Offsets = field(default_factory=no_offsets)
    fresh: pa.Table | None = None
    versions: pa.Table | None = None
    changed: pa.Table | None = None


@dataclass(frozen=True)
class Forced:
    """Single records that Postgres or DuckDB refused: reason and detail by version id (None: every table)."""

    refused: Mapping[str | None, tuple[str, str]] = field(default_factory=dict)

    def of(self, version_id: str) -> tuple[str, str] | None:
        """The refusal that holds for a table, if any."""
        return self.refused.get(version_id) or self.refused.get(None)


class Router:
    """Runs the SQL of a pipeline over batches, in one DuckDB connection."""

    def __init__(self, program: PipelineProgram) -> None:
        self._program = program
        self._duck = duck.connect()

    def route(
        self,
        batch: Batch,
        watermarks: Mapping[str, int | None],
        forced: Forced,
        look: dedup.Look | None = None,
    ) -> dict[str, Routed]:
        """Fates, dead letters and rows of the tables in `watermarks` (their watermark before the batch).

        look: into what tables remember that leave out duplicates; corrections need none.
        """
        tables = [(k, t) for k, t in enumerate(self._program.tables) if t.version_id in watermarks]
        deleting = any(t.nulls_sql for _, t in tables) and tombstones.without_value(batch)
        if batch.frame is None or (batch.frame.num_rows == 0 and not deleting):
            undecodable = _undecodable(batch)
            return {t.version_id: _nothing(batch, watermarks[t.version_id], undecodable) for _, t in tables}
        if None in forced.refused:
            refused = (Refusal(0, *forced.refused[None]),)
            return {t.version_id: _nothing(batch, watermarks[t.version_id], refused) for _, t in tables}
        try:
            self._duck.register("frame", pa.Table.from_batches([batch.frame]))
            self._duck.execute(self._program.route(batch.frame))
            counts = self._row(self._program.counts_sql)
        except _OF_THE_DATA as error:
            raise Poison(None, f"rejected:{type(error).__name__}", str(error)) from error
        refusals = self._refusals(counts, tables)
        return {
            t.version_id: self._table(k, t, batch, counts, refusals.get(k, []), watermarks[t.version_id], forced, look)
            for k, t in tables
        }

    def _table(
        self,
        k: int,
        table: TableProgram,
        batch: Batch,
        counts: dict[str, int | None],
        refusals: list[Refusal],
        watermark: int | None,
        forced: Forced,
        look: dedup.Look | None,
    ) -> Routed:
        lifted = _largest(watermark, counts["max_valid_event"], *(m.event_time for m in batch.markers))
        nulls = tombstones.take(self._duck, table, batch, watermark)
        taken = fates.take(self._duck, table, batch, counts, watermark, lifted)
        taken = replace(taken, applied=taken.applied + sum(reason is None for reason in nulls.values()))
        refused = forced.of(table.version_id)
        if refused is not None and taken.applied:
            refusals, taken = [*refusals, Refusal(0, *refused)], fates.Taken(0, None, None)
        taken, fresh = self._known(table, batch, taken, (watermark, lifted), look)
        rows = tuple(self._arrow(table, part.rows_sql) for part in table.parts) if taken.applied else ()
        return Routed(
            applied=taken.applied,
            filtered=counts[f"t{k}_filtered"] or 0,
            control=len(batch.markers),
            refusals=tuple(sorted((*_undecodable(batch, nulls), *refusals), key=lambda r: r.index)),
            late_applied=taken.late_applied,
            watermark=lifted,
            ended=_ended(batch),
            min_event=taken.min_event,
            max_event=taken.max_event,
            rows=rows,
            days=_days(rows[0], table) if rows and table.windowed else (),
            late=batch.offsets[taken.late],
            duplicate=batch.offsets[taken.duplicate],
            fresh=fresh,
            versions=self._versions(table, batch) if taken.applied else None,
            changed=self._changed(table, taken) if taken.applied and taken.late_taken.size else None,
        )

    def _versions(self, table: TableProgram, batch: Batch) -> pa.Table | None:
        if not table.transitions or table.newest is None or batch.corrected:
            return None
        return self._arrow(table, table.newest.versions_sql)

    def _changed(self, table: TableProgram, taken: fates.Taken) -> pa.Table:
        """The rows that records change which may be late."""
        assert table.final is not None  # others have none
        self._duck.register("late_taken", pa.table({"_i": taken.late_taken}))
        return self._duck.sql(table.final.late_rows_sql).to_arrow_table()

    def _known(
        self,
        table: TableProgram,
        batch: Batch,
        taken: fates.Taken,
        watermarks: tuple[int | None, int | None],
        look: dedup.Look | None,
    ) -> tuple[fates.Taken, pa.Table | None]:
        try:
            return dedup.take(self._duck, table, batch, taken, *watermarks, look)
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            raise refused_by_postgres(table.version_id, error) from error

    def _arrow(self, table: TableProgram, query: str) -> pa.Table:
        try:
            return self._duck.sql(query).to_arrow_table()
        except _OF_THE_DATA as error:
            raise Poison(table.version_id, f"rejected:{type(error).__name__}", str(error)) from error

    def _refusals(
        self, counts: dict[str, int | None], tables: list[tuple[int, TableProgram]]
    ) -> dict[int, list[Refusal]]:
        if not any(counts[f"t{k}_dead"] for k, _ in tables):
            return {}
        found: dict[int, list[Refusal]] = {k: [] for k, _ in tables}
        for row in self._duck.sql(self._program.reasons_sql).to_arrow_table().to_pylist():
            for k, _ in tables:
                reason = row["topic_reason"] or row[f"t{k}_reason"]
                if reason:
                    found[k].append(Refusal(row["_i"], reason))
        return found

    def _row(self, query: str) -> dict[str, int | None]:
        row: dict[str, int | None] = self._duck.sql(query).to_arrow_table().to_pylist()[0]
        return row


def _undecodable(batch: Batch, nulls: Mapping[int, str | None] = MappingProxyType({})) -> tuple[Refusal, ...]:
    """What could not be decoded; `nulls`: why a record without value deletes nothing, None where it does."""
    reasons = ((failure, nulls.get(failure.index, failure.reason)) for failure in batch.failures)
    return tuple(Refusal(failure.index, reason, failure.detail) for failure, reason in reasons if reason is not None)


def _nothing(batch: Batch, watermark: int | None, refusals: tuple[Refusal, ...]) -> Routed:
    """A batch of which the table takes no record; markers still move its watermark."""
    lifted = _largest(watermark, *(m.event_time for m in batch.markers))
    return Routed(0, 0, len(batch.markers), refusals, 0, lifted, _ended(batch), None, None, ())


def _largest(*times: int | None) -> int | None:
    known = [t for t in times if t is not None]
    return max(known) if known else None


def _ended(batch: Batch) -> int | None:
    """Event time of an end-of-input marker that nothing follows in the batch."""
    if batch.markers and batch.markers[-1].index == batch.records - 1:
        return batch.markers[-1].event_time
    return None


def _days(rows: pa.Table, table: TableProgram) -> tuple[int, ...]:
    """UTC days on which the windows begin that these rows change; of sessions only the merge knows them."""
    if isinstance(table.table.window, Session):
        return ()
    micros = rows.column("window_start").cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
    window = table.table.window
    if isinstance(window, Hopping):
        micros = _starts(np.unique(micros), window)
    return tuple(int(day) for day in np.unique(micros // _DAY))


def _starts(panes: Offsets, window: Hopping) -> Offsets:
    """Starts of all windows that hold one of these panes."""
    every = window.every_micros
    starts = (panes // every * every)[:, np.newaxis] - np.arange(window.micros // every + 1) * every
    held: Offsets = starts[starts + window.micros >= panes[:, np.newaxis] + window.pane_micros]
    return held
