"""Columns of other tables beside the records of a batch, as of each record's event time (engine rule C8).

    wait      until the tables looked up in have what their topics have, for a bounded time
    pin       the vector: how far these tables are
    read      the versions that the batch's keys have had by then, in the same snapshot
    join      in DuckDB; the batch carries its vector into the batch index

The result is a function of the batch and the vector: enriched again with the same vector it has the same columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import duckdb
import pyarrow as pa

from headrace.errors import Terminal
from ledger import Connection, lookups, table_versions
from ledger.lookups import Vector
from stream_workers.batch import Batch
from topology import duck
from topology.postgres import BY_INDEX
from topology.program import Column, LookupProgram, PipelineProgram, TableProgram
from topology.state import decimal_of

_TYPES = {
    "VARCHAR": pa.string(),
    "TINYINT": pa.int32(),
    "SMALLINT": pa.int32(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "BOOLEAN": pa.bool_(),
    "DOUBLE": pa.float64(),
    "DATE": pa.date32(),
    "TIMESTAMP WITH TIME ZONE": pa.timestamp("us", "UTC"),
}
_SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"

# Waits until the tables of these lookups are level with their topics, or long enough.
Wait = Callable[[Connection, Sequence[LookupProgram]], None]


class NothingToLookUp(Terminal):
    """A table that records are looked up in is not there yet, or has another definition."""


class Lookups:
    """Enriches the batches of one pipeline, in a DuckDB connection of its own; of most pipelines it changes none."""

    def __init__(self, program: PipelineProgram, wait: Wait) -> None:
        self._program, self._lookups, self._wait = program, program.lookups, wait
        self._duck: duckdb.DuckDBPyConnection | None = None

    def enrich(self, db: Connection, batch: Batch, vector: Vector | None = None) -> Batch:
        """The batch with the columns looked up and its vector: the one given, or how far the tables are by now.

        Raises `NothingToLookUp`, and what Postgres and Kafka raise.
        """
        if not self._lookups or batch.frame is None:
            return batch
        if self._duck is None:
            self._duck = duck.connect()
        if not batch.frame.num_rows:
            return replace(batch, frame=_beside(batch.frame, [_none(lookup) for lookup in self._lookups]))
        if vector is None:
            self._wait(db, self._lookups)
        self._duck.register("plain", pa.Table.from_batches([batch.frame]))
        try:
            with db.transaction():  # nothing but reads: its end takes nothing back
                db.execute(_SNAPSHOT)
                db.execute(BY_INDEX.encode())
                vector = self._pin(db) if vector is None else vector
                found = [self._look_up(db, self._duck, lookup, vector) for lookup in self._lookups]
        finally:
            self._duck.unregister("plain")
        return replace(batch, frame=_beside(batch.frame, found), vector=vector)

    def reset(self) -> None:
        """Forget DuckDB's connection: after an error it may be of no use."""
        self._duck = None

    def _pin(self, db: Connection) -> Vector:
        """How far the tables are, all of which there must be."""
        pinned = lookups.positions(db, sorted({lookup.version_id for lookup in self._lookups}))
        for lookup in self._lookups:
            if lookup.version_id in pinned:
                continue
            live = table_versions.live(db, lookup.table)
            if live is None:
                raise NothingToLookUp(
                    f"{lookup.table}, in which records of {self._program.topic.name} are looked up, was never built;"
                    f" nothing was consumed; start its pipeline with `headrace worker start {lookup.pipeline}`"
                )
            raise NothingToLookUp(
                f"{lookup.table}, in which records of {self._program.topic.name} are looked up, lives as {live}, the"
                f" declaration is now {lookup.version_id}; nothing was consumed; undo the change, or run"
                f" `headrace pipeline rebuild {lookup.pipeline}` to build it anew"
            )
        return pinned

    @staticmethod
    def _look_up(
        db: Connection, connection: duckdb.DuckDBPyConnection, lookup: LookupProgram, vector: Vector
    ) -> pa.Table:
        connection.execute(lookup.asked_sql)
        asked = connection.sql(lookup.keys_sql).to_arrow_table()
        levels = vector[lookup.version_id]
        given = {
            "keys": asked.column("key").to_pylist(),
            "first": asked.column("first").to_pylist(),
            "last": asked.column("last").to_pylist(),
            "partitions": list(levels),
            "next_offsets": [level.next_offset for level in levels.values()],
            "corrections": [level.correction_seq for level in levels.values()],
        }
        rows = db.execute(lookup.versions_sql.encode(), given).fetchall() if given["keys"] else []
        connection.register("versions", _versions(lookup, rows))
        try:
            return connection.sql(lookup.looked_sql).to_arrow_table()
        finally:
            connection.unregister("versions")


def vector_of(program: TableProgram, batch: Batch) -> str | None:
    """The part of a batch's vector that a table's rows depend on, as the index keeps it; None where there is none."""
    if batch.vector is None or not program.lookups:
        return None
    return lookups.encoded({lookup.version_id: batch.vector[lookup.version_id] for lookup in program.lookups})


def _versions(lookup: LookupProgram, rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    """What `versions_sql` gave, as `looked_sql` reads it."""
    values = list(zip(*rows, strict=True)) or [()] * (3 + len(lookup.columns))
    arrays = [pa.array(values[0], pa.int64()), pa.array(values[1], pa.int64()), pa.array(values[2], pa.bool_())]
    arrays += [_array(column, found) for column, found in zip(lookup.columns, values[3:], strict=True)]
    return pa.table(arrays, names=["_n", "_since", "_deleted", *(column.name for column in lookup.columns)])


def _array(column: Column, values: Sequence[Any]) -> pa.Array:
    """Values as Postgres gives them; dates and moments as numbers."""
    kind = _type(column)
    if pa.types.is_date(kind):
        return pa.array(values, pa.int32()).cast(kind)
    if pa.types.is_timestamp(kind):
        return pa.array(values, pa.int64()).cast(kind)
    return pa.array(values, kind)


def _type(column: Column) -> pa.DataType:
    decimal = decimal_of(column.duck_type)
    return pa.decimal128(*decimal) if decimal else _TYPES[column.duck_type]


def _none(lookup: LookupProgram) -> pa.Table:
    """The columns of no record."""
    columns = [pa.array([], pa.bool_()), *(pa.array([], _type(column)) for column in lookup.columns)]
    return pa.table(columns, names=[lookup.found, *(column.name for column in lookup.columns)])


def _beside(frame: pa.RecordBatch, found: Sequence[pa.Table]) -> pa.RecordBatch:
    """The frame and the columns found; those of one name are the same."""
    columns = dict(zip(frame.schema.names, frame.columns, strict=True))
    for table in found:
        for name, column in zip(table.schema.names, table.columns, strict=True):
            columns.setdefault(name, column.combine_chunks())
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
