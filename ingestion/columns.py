"""Text to typed Arrow columns, strictly: a value that is not of its type rejects its row and no other."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from ingestion.batch import Reason
from schemas.avro import AvroSchema, Field


class Rejects:
    """Rows of a batch that cannot become records; the first reason given for a row stays."""

    def __init__(self) -> None:
        self.reasons: dict[int, tuple[Reason, str]] = {}

    def add(self, row: int, reason: Reason, detail: str) -> None:
        """Reject row number `row` of the batch."""
        self.reasons.setdefault(row, (reason, detail))


def of_text(column: pa.StringArray, field: Field, rejects: Rejects) -> pa.Array:
    """The column in the field's type. Null stands for "no value"; bad values come back null and are in `rejects`."""
    if column.null_count and not field.nullable:
        for row in pc.indices_nonzero(pc.is_null(column)).to_pylist():
            rejects.add(row, "missing_value", f"{field.name} has no value")
    if field.kind == "string":
        return column
    if field.kind == "enum":
        known = pc.is_in(column, value_set=pa.array(field.symbols, pa.string()))
        if pc.all(known, min_count=0).as_py():
            return column
        for row in pc.indices_nonzero(pc.and_(pc.invert(known), pc.is_valid(column))).to_pylist():
            rejects.add(row, "bad_enum", f'{field.name}: "{_short(column[row])}" is none of {", ".join(field.symbols)}')
        return column
    try:
        return pc.cast(column, field.arrow)
    except pa.ArrowInvalid:
        column = pc.utf8_trim_whitespace(column)
    pieces = []
    for offset, piece in _pieces(column, field.arrow):
        if piece.null_count == len(piece) == 1 and column[offset].is_valid:
            rejects.add(offset, "wrong_type", f'{field.name}: "{_short(column[offset])}" is not of type {field.kind}')
        pieces.append(piece)
    return pa.concat_arrays(pieces)


def _pieces(column: pa.StringArray, to: pa.DataType) -> Iterator[tuple[int, pa.Array]]:
    """Typed pieces in order, halved down to each bad value, which is one null."""
    todo = [(0, column)]
    while todo:
        offset, part = todo.pop()
        try:
            yield offset, pc.cast(part, to)
        except pa.ArrowInvalid:
            half = len(part) // 2
            if half:
                todo += [(offset + half, part[half:]), (offset, part[:half])]
            else:
                yield offset, pa.nulls(1, to)


def default(field: Field, rows: int) -> pa.Array:
    """A column of the field's default, or of nulls."""
    if not field.has_default or field.default is None:
        return pa.nulls(rows, field.arrow)
    value = field.default
    if field.kind == "decimal":
        unscaled = int.from_bytes(str(value).encode("latin-1"), "big", signed=True)
        value = pa.scalar(unscaled, pa.decimal128(38, 0)).as_py().scaleb(-field.arrow.scale)
    elif field.kind == "bytes":
        value = str(value).encode("latin-1")
    elif field.kind in {"timestamp-millis", "timestamp-micros", "date"}:
        integers = pa.array([value] * rows, pa.int32() if field.kind == "date" else pa.int64())
        return integers.view(field.arrow)
    return pa.array([value] * rows, field.arrow)


def optional(field: Field) -> bool:
    """Whether a file may leave the whole column out."""
    return field.nullable or field.has_default


def kept(columns: list[pa.Array], schema: AvroSchema, rejects: Rejects) -> tuple[pa.RecordBatch, pa.Array]:
    """The rows that are not rejected, and their numbers."""
    rows = len(columns[0])
    frame = pa.RecordBatch.from_arrays(columns, names=[f.name for f in schema.fields])
    numbers = pa.array(range(rows), pa.int64())
    if rejects.reasons:
        good = pc.invert(pc.is_in(numbers, value_set=pa.array(list(rejects.reasons), pa.int64())))
        frame, numbers = frame.filter(good), numbers.filter(good)
    return pa.RecordBatch.from_arrays(frame.columns, schema=schema.arrow), numbers


def _short(value: pa.Scalar) -> str:
    text = str(value.as_py())
    return text if len(text) <= 60 else text[:57] + "..."
