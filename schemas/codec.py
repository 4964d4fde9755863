"""Framed Avro records <-> Arrow batches, columnar, with every bad record named.

A record is Confluent-framed: magic byte 0, the writer's schema id (4 bytes, big endian), the Avro datum. The good path
is one call for the whole batch; anything else is grouped by header, bisected to the bad record and explained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.errors import SchemaIncompatible, SchemaNotFound
from schemas.avro import AvroSchema
from schemas.engines import HEADER, Engine, Fastavro, Malformed, Pyruhvro
from schemas.resolve import Alignment, align

Reason = Literal[
    "empty_value",
    "no_magic_byte",
    "unknown_schema_id",
    "incompatible_schema",
    "undecodable",
    "not_utf8",  # from here on of JSON, named as for files
    "bad_json",
    "missing_column",
    "missing_value",
    "wrong_type",
    "bad_enum",
]

_FAST, _SLOW = Pyruhvro(), Fastavro()
_FEW = 16  # so few records are looked at one by one: a call for a batch costs as much as eight single records


def header(schema_id: int) -> bytes:
    """The five bytes in front of every datum of a schema."""
    return b"\0" + schema_id.to_bytes(4, "big")


def frame(schema_id: int, datum: bytes) -> bytes:
    """A datum as a record's value."""
    return header(schema_id) + datum


@dataclass(frozen=True)
class Failure:
    """A record that could not be read: its index in the payloads, the reason's name and what exactly was wrong."""

    index: int
    reason: Reason
    detail: str


@dataclass(frozen=True)
class Decoded:
    """Decoded records: columns of the reader's schema; index in the payloads of each row (None: all, in order)."""

    frame: pa.RecordBatch
    rows: npt.NDArray[np.int64] | None
    failures: list[Failure]


class Encoder:
    """Writes records of one schema at a time. `engine`: default is the fastest that serves the schema."""

    def __init__(self, engine: Engine | None = None) -> None:
        self._engine = engine

    def encode(self, schema: AvroSchema, schema_id: int, batch: pa.RecordBatch) -> pa.BinaryArray:
        """One framed record per row; columns in the schema's order. Raises ValueError for a value it cannot hold."""
        return (self._engine or _engine_for(schema)).write(batch, schema, header(schema_id))


class Decoder:
    """Reads records of any schema that resolves to the reader's.

    lookup: the schema of an id; raises `SchemaNotFound` for an unknown id, and `Transient` errors pass through.
    """

    def __init__(self, reader: AvroSchema, lookup: Callable[[int], AvroSchema], engine: Engine | None = None) -> None:
        self._reader = reader
        self._lookup = lookup
        self._engine = engine
        self._known: dict[bytes, tuple[AvroSchema, Alignment, Engine]] = {}

    def decode(self, payloads: list[bytes | None]) -> Decoded:
        """All payloads (`None`: a null value) as one frame plus the failures, in order of their index."""
        return self._uniform(payloads) or self._mixed(payloads)

    def _uniform(self, payloads: list[Any]) -> Decoded | None:
        """The good path: one header, no bad record; None when it is not that."""
        first = payloads[0] if payloads else None
        if not first or _no_header(first):
            return None
        prefix = bytes(first[:HEADER])
        try:
            schema, alignment, engine = self._writer(prefix)
            frame, bad = alignment.apply(engine.read(payloads, schema, prefix))
        except (Malformed, SchemaNotFound, SchemaIncompatible, TypeError):
            return None
        return Decoded(frame, None, []) if bad is None else None

    def _mixed(self, payloads: Sequence[bytes | None]) -> Decoded:
        failures: list[Failure] = []
        groups: dict[bytes, list[int]] = {}
        for index, payload in enumerate(payloads):
            if not payload:
                failures.append(Failure(index, "empty_value", "null" if payload is None else "no bytes"))
            elif why := _no_header(payload):
                failures.append(Failure(index, "no_magic_byte", why))
            else:
                groups.setdefault(payload[:HEADER], []).append(index)
        frames: list[pa.RecordBatch] = []
        rows: list[npt.NDArray[np.int64]] = []
        for prefix, indexes in groups.items():
            self._group(prefix, indexes, payloads, frames, rows, failures)
        failures.sort(key=lambda failure: failure.index)
        if not frames:
            return Decoded(_no_rows(self._reader), np.empty(0, np.int64), failures)
        order = np.concatenate(rows)
        table = pa.Table.from_batches(frames).combine_chunks()
        if bool((np.diff(order) < 0).any()):
            ranks = np.argsort(order)
            table, order = table.take(ranks), order[ranks]
        return Decoded(table.to_batches()[0] if len(order) else _no_rows(self._reader), order, failures)

    def _group(
        self,
        prefix: bytes,
        indexes: list[int],
        payloads: Sequence[bytes | None],
        frames: list[pa.RecordBatch],
        rows: list[npt.NDArray[np.int64]],
        failures: list[Failure],
    ) -> None:
        """Read the records with one header: halve on an error until few are left, then look at each."""
        schema_id = int.from_bytes(prefix[1:], "big")
        try:
            schema, alignment, engine = self._writer(prefix)
        except SchemaNotFound as error:
            failures.extend(Failure(index, "unknown_schema_id", f"schema id {schema_id}: {error}") for index in indexes)
            return
        except SchemaIncompatible as error:
            why = f"schema id {schema_id}: {error}"
            failures.extend(Failure(index, "incompatible_schema", why) for index in indexes)
            return
        todo = [indexes]
        while todo:
            part = todo.pop()
            data = [payloads[index] or b"" for index in part]
            try:
                frame, bad = alignment.apply(engine.read(data, schema, prefix))
            except Malformed as error:
                if len(part) == 1:
                    failures.append(Failure(part[0], "undecodable", _cause(data[0], schema, prefix, error)))
                    continue
                found = _bad_ones(part, data, schema, prefix) if len(part) <= _FEW else []
                failures += found
                if found:
                    lost_here = {failure.index for failure in found}
                    todo += [good] if (good := [index for index in part if index not in lost_here]) else []
                else:
                    todo += [part[len(part) // 2 :], part[: len(part) // 2]]
                continue
            where = np.array(part, np.int64)
            if bad is not None:
                lost = bad.to_numpy(zero_copy_only=False)
                why = f"schema id {schema_id}: a null or an enum symbol that the reader's schema does not have"
                failures.extend(Failure(int(index), "incompatible_schema", why) for index in where[lost])
                where = where[~lost]
            if len(where):
                frames.append(frame)
                rows.append(where)

    def _writer(self, prefix: bytes) -> tuple[AvroSchema, Alignment, Engine]:
        found = self._known.get(prefix)
        if found is None:
            schema = self._lookup(int.from_bytes(prefix[1:], "big"))
            found = schema, align(schema, self._reader), self._engine or _engine_for(schema)
            self._known[prefix] = found
        return found


def _engine_for(schema: AvroSchema) -> Engine:
    return _FAST if _FAST.serves(schema) else _SLOW


def _no_header(payload: bytes) -> str | None:
    if payload[0] != 0:
        return f"starts with byte 0x{payload[0]:02x}, a framed record starts with 0x00"
    return f"{len(payload)} bytes, too short for magic byte and schema id" if len(payload) < HEADER else None


def _bad_ones(indexes: list[int], data: list[bytes], schema: AvroSchema, prefix: bytes) -> list[Failure]:
    """Those of a few records that fastavro cannot read."""
    found = []
    for index, payload in zip(indexes, data, strict=True):
        try:
            _SLOW.datum(payload, schema, prefix)
        except Malformed as error:
            found.append(Failure(index, "undecodable", str(error)))
    return found


def _cause(payload: bytes, schema: AvroSchema, prefix: bytes, error: Malformed) -> str:
    """Why a datum is bad, in fastavro's words; in the engine's own where fastavro can read it."""
    try:
        _SLOW.read([payload], schema, prefix)
    except Malformed as named:
        return str(named)
    return str(error)


def _no_rows(schema: AvroSchema) -> pa.RecordBatch:
    return _SLOW.read([], schema, header(0))
