"""Two implementations of one interface: framed Avro data <-> Arrow columns of one writer's schema.

`Pyruhvro` (Rust) is about 40 times faster and serves every schema without bytes and decimal columns, which it does not
implement; `Fastavro` (Cython, record by record) serves every schema and names the cause of a bad datum. Both refuse the
same data: a wrong header, truncation, trailing bytes, values out of range, and encodings no writer makes.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from decimal import Decimal
from functools import cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyruhvro

from schemas.avro import AvroSchema, Field

HEADER = 5  # Confluent framing: magic byte 0, then the schema id as 4 bytes, big endian


class Malformed(ValueError):
    """At least one datum of a group is not a datum of the schema, or does not start with the header."""


class Engine(Protocol):
    """Reads and writes framed data of one schema."""

    def read(self, framed: Sequence[bytes], schema: AvroSchema, header: bytes) -> pa.RecordBatch:
        """All of `framed` as one batch of `schema.arrow`, in order; raises `Malformed` when any is bad."""
        ...

    def write(self, batch: pa.RecordBatch, schema: AvroSchema, header: bytes) -> pa.BinaryArray:
        """One framed datum per row of `batch` (columns of `schema.arrow`); raises `Malformed` for a bad value."""
        ...


# --------------------------------------------------------------------------------------------------------- pyruhvro
# The header is read and written as two more columns, a boolean and a float (one byte, four raw bytes): no slicing of
# 100,000 Python objects, and the ids are compared in one numpy pass.


def _wire_type(field: Field) -> Any:
    """The Avro type that pyruhvro sees: integers have 64 bits, so that a value out of range is found, not wrapped."""
    if field.kind == "enum":
        return {"type": "enum", "name": f"E_{field.name}", "symbols": list(field.symbols)}
    if field.kind in {"int", "long", "date", "timestamp-millis", "timestamp-micros"}:
        return "long"
    return field.kind


@cache
def _wire(schema: AvroSchema) -> str:
    columns: list[dict[str, Any]] = [{"name": "f_magic", "type": "boolean"}, {"name": "f_id", "type": "float"}]
    for index, field in enumerate(schema.fields):
        inner = _wire_type(field)
        union = {None: inner, 0: ["null", inner], 1: [inner, "null"]}[field.null_at]
        columns.append({"name": f"f{index}", "type": union})
    return json.dumps({"type": "record", "name": "Wire", "fields": columns})


class Pyruhvro:
    """The fast engine."""

    @staticmethod
    def serves(schema: AvroSchema) -> bool:
        """Whether the schema has only types that pyruhvro implements."""
        return all(field.kind not in {"bytes", "decimal"} for field in schema.fields)

    def read(self, framed: Sequence[bytes], schema: AvroSchema, header: bytes) -> pa.RecordBatch:
        """See `Engine.read`."""
        payloads = framed if isinstance(framed, list) else list(framed)
        batch = _guarded(pyruhvro.deserialize_array, payloads, _wire(schema))
        rows = batch.num_rows
        if not rows:
            return _empty(schema)
        ids = np.frombuffer(batch.column(1).buffers()[1], np.uint32)[:rows]
        if pc.any(batch.column(0)).as_py() or bool((ids != np.frombuffer(header[1:], np.uint32)[0]).any()):
            raise Malformed("another header")
        if sum(map(len, payloads)) != HEADER * rows + sum(
            _encoded_size(batch.column(index + 2), field) for index, field in enumerate(schema.fields)
        ):
            raise Malformed("trailing bytes")
        for index, field in enumerate(schema.fields):
            if field.kind == "string":
                _check_utf8(batch.column(index + 2))
        try:
            columns = [_narrow(batch.column(index + 2), field) for index, field in enumerate(schema.fields)]
        except pa.ArrowInvalid as error:
            raise Malformed(str(error)) from error
        return pa.RecordBatch.from_arrays(columns, schema=schema.arrow)

    def write(self, batch: pa.RecordBatch, schema: AvroSchema, header: bytes) -> pa.BinaryArray:
        """See `Engine.write`."""
        _check_nulls(batch, schema)
        rows = batch.num_rows
        magic = pa.Array.from_buffers(pa.bool_(), rows, [None, pa.py_buffer(bytes(rows // 8 + 1))])
        ids = pa.Array.from_buffers(pa.float32(), rows, [None, pa.py_buffer(header[1:] * rows)])
        columns = [magic, ids]
        for name, field in zip(batch.schema.names, schema.fields, strict=True):
            column = batch.column(name).cast(field.arrow)
            columns.append(_integers(column) if _wire_type(field) == "long" else column)
        names = ["f_magic", "f_id", *(f"f{index}" for index in range(len(schema.fields)))]
        (data,) = _guarded(pyruhvro.serialize_record_batch, pa.record_batch(columns, names=names), _wire(schema), 1)
        return data


def _check_utf8(column: pa.Array) -> None:
    """Pyruhvro copies the bytes of texts without a look at them; texts of ASCII alone need no second one."""
    data = column.buffers()[2]
    if data is not None and np.frombuffer(data, np.int8).min(initial=0) < 0:
        try:
            column.validate(full=True)
        except pa.ArrowInvalid as error:
            raise Malformed(str(error)) from error


def _guarded(function: Any, *arguments: Any) -> Any:
    """The function's result; a Rust panic (a BaseException of its own) is bad data like any other error."""
    try:
        return function(*arguments)
    except (ValueError, TypeError, OverflowError) as error:
        raise Malformed(str(error)) from error
    except BaseException as error:
        if type(error).__name__ == "PanicException":
            raise Malformed(f"pyruhvro cannot read it: {error}") from error
        raise


def _empty(schema: AvroSchema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], field.arrow) for field in schema.fields], schema=schema.arrow)


def _integers(column: pa.Array) -> pa.Array:
    """The 64-bit integers inside a column of integers, dates or timestamps."""
    return (column.view(pa.int32()) if pa.types.is_date32(column.type) else column).cast(pa.int64())


def _narrow(column: pa.Array, field: Field) -> pa.Array:
    """A decoded column in the field's own type; raises `ArrowInvalid` for an integer out of its range."""
    if field.kind == "int":
        return column.cast(pa.int32())
    if field.kind == "date":
        return column.cast(pa.int32()).view(pa.date32())
    if field.kind in {"timestamp-millis", "timestamp-micros"}:
        return column.view(field.arrow)
    return column


def _encoded_size(column: pa.Array, field: Field) -> int:
    """Bytes that the values of a decoded column take in Avro's binary encoding, unions' branch bytes included."""
    rows = len(column)
    valid: int = rows - column.null_count
    size: int = rows if field.nullable else 0
    if field.kind == "boolean":
        return size + valid
    if field.kind in {"float", "double"}:
        return size + valid * (4 if field.kind == "float" else 8)
    if field.kind == "enum":
        return size + (valid if len(field.symbols) <= 64 else _enum_size(column, field))
    if column.null_count:
        column = column.drop_null()
    if not len(column):
        return size
    if field.kind == "string":
        offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + len(column) + 1]
        return size + int(offsets[-1] - offsets[0]) + _varint_size(np.diff(offsets).astype(np.uint64) << np.uint64(1))
    values = np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + len(column)]
    return size + _varint_size(((values << 1) ^ (values >> 63)).view(np.uint64))


def _enum_size(column: pa.Array, field: Field) -> int:
    where = pc.index_in(column, pa.array(field.symbols)).drop_null().to_numpy()
    return _varint_size(where.astype(np.uint64) << np.uint64(1))


def _varint_size(zigzag: npt.NDArray[np.uint64]) -> int:
    """Bytes that unsigned numbers take as varints: seven bits a byte."""
    size, limit, top = len(zigzag), 128, int(zigzag.max(initial=0))
    while limit <= top:
        size += int(np.count_nonzero(zigzag >= np.uint64(limit)))
        limit <<= 7
    return size


def _check_nulls(batch: pa.RecordBatch, schema: AvroSchema) -> None:
    """Pyruhvro would write an empty value in place of a null where the schema has none."""
    for column, field in zip(batch.columns, schema.fields, strict=True):
        if column.null_count and not field.nullable:
            raise Malformed(f'column "{field.name}" has {column.null_count} null values and its schema allows none')


# --------------------------------------------------------------------------------------------------------- fastavro


@cache
def _parsed(schema: AvroSchema) -> Any:
    import fastavro

    # Logical types are read and written as plain numbers: Arrow makes them dates and timestamps, of any year.
    fields = []
    for field in schema.fields:
        inner = {"bytes": "bytes", "decimal": "bytes"}.get(field.kind) or _wire_type(field)
        union = {None: inner, 0: ["null", inner], 1: [inner, "null"]}[field.null_at]
        fields.append({"name": field.name, "type": union})
    return fastavro.parse_schema({"type": "record", "name": "Wire", "fields": fields})


class Fastavro:
    """The engine for every schema, record by record."""

    def read(self, framed: Sequence[bytes], schema: AvroSchema, header: bytes) -> pa.RecordBatch:
        """See `Engine.read`."""
        if not framed:
            return _empty(schema)
        records = [self.datum(payload, schema, header) for payload in framed]
        try:
            columns = [_column([record[field.name] for record in records], field) for field in schema.fields]
        except (pa.ArrowInvalid, OverflowError, ValueError) as error:
            raise Malformed(str(error)) from error
        return pa.RecordBatch.from_arrays(columns, schema=schema.arrow)

    def datum(self, payload: bytes, schema: AvroSchema, header: bytes) -> dict[str, Any]:
        """One record as plain values; raises `Malformed` with the cause."""
        import fastavro

        if payload[:HEADER] != header:
            raise Malformed("another header")
        parsed, data = _parsed(schema), io.BytesIO(payload)
        data.seek(HEADER)
        try:
            record = fastavro.schemaless_reader(data, parsed)
        except EOFError as error:
            raise Malformed(f"truncated after {len(payload)} bytes") from error
        except (ValueError, IndexError, OverflowError, TypeError, MemoryError, KeyError) as error:
            raise Malformed(f"{type(error).__name__}: {error}") from error
        rest = len(payload) - data.tell()
        if rest:
            raise Malformed(f"{rest} trailing bytes after the record")
        # fastavro takes index -1 and boolean 2; what it read must be what a writer would have written
        again = io.BytesIO()
        fastavro.schemaless_writer(again, parsed, record)
        if again.getvalue() != payload[HEADER:]:
            raise Malformed("an index, boolean or number is encoded as no Avro writer does")
        assert isinstance(record, dict)
        return record

    def write(self, batch: pa.RecordBatch, schema: AvroSchema, header: bytes) -> pa.BinaryArray:
        """See `Engine.write`."""
        import fastavro

        _check_nulls(batch, schema)
        parsed = _parsed(schema)
        columns = [_values(batch.column(index), field) for index, field in enumerate(schema.fields)]
        names, data = [field.name for field in schema.fields], []
        for row in zip(*columns, strict=True):
            out = io.BytesIO()
            out.write(header)
            try:
                fastavro.schemaless_writer(out, parsed, dict(zip(names, row, strict=True)))
            except (ValueError, TypeError, OverflowError) as error:
                raise Malformed(str(error)) from error
            data.append(out.getvalue())
        return pa.array(data, pa.binary())


def _column(values: list[Any], field: Field) -> pa.Array:
    """Plain values as a column of the field's type."""
    if field.kind == "decimal":
        return pa.array([None if value is None else _decimal(value, field) for value in values], field.arrow)
    if field.kind == "date":
        return pa.array(values, pa.int32()).view(pa.date32())
    if field.kind in {"timestamp-millis", "timestamp-micros"}:
        return pa.array(values, pa.int64()).view(field.arrow)
    return pa.array(values, field.arrow)


def _values(column: pa.Array, field: Field) -> list[Any]:
    """A column as the plain values that fastavro writes."""
    column = column.cast(field.arrow)
    if field.kind == "decimal":
        return [None if value is None else _two_complement(value, field) for value in column.to_pylist()]
    if _wire_type(field) == "long":
        column = _integers(column)
    return list(column.to_pylist())


def _decimal(data: bytes, field: Field) -> Decimal:
    unscaled = int.from_bytes(data, "big", signed=True)
    if len(str(abs(unscaled))) > field.arrow.precision:
        raise Malformed(f'column "{field.name}": more than {field.arrow.precision} digits')
    return Decimal(unscaled).scaleb(-field.arrow.scale)


def _two_complement(value: Decimal, field: Field) -> bytes:
    unscaled = int(value.scaleb(field.arrow.scale))
    return unscaled.to_bytes((unscaled + (unscaled < 0)).bit_length() // 8 + 1, "big", signed=True)
