"""Columns of a writer's schema aligned to the reader's: Avro's schema resolution, column by column.

The reader's fields are found by name, then by alias; a field the writer did not have takes its default; numbers are
promoted (int -> long, float, double; long -> float, double; float -> double; string <-> bytes); an enum symbol the
reader does not know becomes its enum default.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from headrace.errors import SchemaIncompatible
from schemas.avro import AvroSchema, Field
from schemas.engines import Malformed

_PROMOTIONS = {
    "int": {"long", "float", "double"},
    "long": {"float", "double"},
    "float": {"double"},
    "string": {"bytes"},
    "bytes": {"string"},
}
_Column = Callable[[pa.RecordBatch], pa.Array]


@dataclass(frozen=True)
class Alignment:
    """How a writer's batch becomes a reader's; `same` when nothing has to be done."""

    reader: AvroSchema
    columns: tuple[_Column, ...]
    checked: tuple[Field, ...]
    same: bool

    def apply(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.BooleanArray | None]:
        """The reader's batch, and which of the rows have no value there (None: all have one)."""
        if self.same:
            return batch, None
        columns = [column(batch) for column in self.columns]
        bad = None
        for index, field in enumerate(self.reader.fields):
            if field in self.checked and columns[index].null_count:
                missing = pc.is_null(columns[index])
                bad = missing if bad is None else pc.or_(bad, missing)
        if bad is not None:
            columns = [column.filter(pc.invert(bad)) for column in columns]
        return pa.RecordBatch.from_arrays(columns, schema=self.reader.arrow), bad


@cache
def align(writer: AvroSchema, reader: AvroSchema) -> Alignment:
    """How to read the writer's records with the reader's schema; raises `SchemaIncompatible` when that cannot be."""
    if writer.fields == reader.fields:
        return Alignment(reader, (), (), same=True)
    columns, checked = [], []
    for field in reader.fields:
        found = next((writer.by_name[name] for name in (field.name, *field.aliases) if name in writer.by_name), None)
        if found is None:
            columns.append(_default(field))
            continue
        columns.append(_convert(found, field))
        if not field.nullable and (found.nullable or field.kind == "enum"):
            checked.append(field)
    return Alignment(reader, tuple(columns), tuple(checked), same=False)


def _default(field: Field) -> _Column:
    if not field.has_default:
        raise SchemaIncompatible(f'field "{field.name}" was not written and has no default in the reader\'s schema')
    value = default_value(field)

    def column(batch: pa.RecordBatch) -> pa.Array:
        return pa.repeat(value, batch.num_rows)

    return column


def default_value(field: Field) -> pa.Scalar[Any]:
    """The field's default; raises `SchemaIncompatible` when it is no value of the field."""
    value = field.default
    if value is not None and field.kind in {"bytes", "decimal"}:
        data = str(value).encode("latin-1")  # Avro writes bytes in JSON as the code points 0-255
        value = data
        if field.kind == "decimal":
            value = Decimal(int.from_bytes(data, "big", signed=True)).scaleb(-field.arrow.scale)
    if value is None and not field.nullable:
        raise SchemaIncompatible(f'field "{field.name}" has the default null and is not a union with null')
    try:
        if value is not None and (pa.types.is_timestamp(field.arrow) or pa.types.is_date32(field.arrow)):
            return pa.scalar(value, pa.int32() if pa.types.is_date32(field.arrow) else pa.int64()).cast(field.arrow)
        return pa.scalar(value, field.arrow)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise SchemaIncompatible(f'field "{field.name}": the default {field.default!r} is no {field.kind}') from error


def _convert(writer: Field, reader: Field) -> _Column:
    def take(batch: pa.RecordBatch) -> pa.Array:
        return batch.column(writer.name)

    if writer.kind == reader.kind == "enum":
        return _symbols(writer, reader, take)
    if writer.arrow == reader.arrow and writer.kind == reader.kind:
        return take
    widened = (
        writer.kind == reader.kind == "decimal"
        and writer.arrow.scale == reader.arrow.scale
        and writer.arrow.precision <= reader.arrow.precision
    )
    if not widened and reader.kind not in _PROMOTIONS.get(writer.kind, set()):
        raise SchemaIncompatible(f'field "{reader.name}" was written as {writer.kind} and is read as {reader.kind}')

    def convert(batch: pa.RecordBatch) -> pa.Array:
        column = batch.column(writer.name)
        try:
            return column.cast(reader.arrow, safe=writer.kind == "bytes")  # bytes that are no text are refused
        except pa.ArrowInvalid as error:
            raise Malformed(str(error)) from error

    return convert


def _symbols(writer: Field, reader: Field, take: _Column) -> _Column:
    if set(writer.symbols) <= set(reader.symbols):
        return take
    known = pa.array(reader.symbols, pa.string())
    other = pa.scalar(reader.symbol_default, pa.string())

    def column(batch: pa.RecordBatch) -> pa.Array:
        values = take(batch)
        chosen = pc.if_else(pc.is_in(values, known), values, other)
        return pc.if_else(pc.is_null(values), pa.scalar(None, pa.string()), chosen)

    return column
