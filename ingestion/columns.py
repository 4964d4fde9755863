"""Text to typed Arrow columns, strictly: a value that is not of its type rejects its row and no other."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
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
    bad = _bad(column, field)
    for row in bad.tolist():
        rejects.add(row, "wrong_type", f'{field.name}: "{_short(column[row])}" is not of type {field.kind}')
    mask = np.zeros(len(column), bool)
    mask[bad] = True
    return pc.cast(pc.if_else(pa.array(mask), pa.scalar(None, pa.string()), column), field.arrow)


def _bad(column: pa.StringArray, field: Field) -> npt.NDArray[np.int64]:
    """Rows whose text is not of the field's type. The cast decides; that most numbers are digits with a point only
    saves asking it for each."""
    digits = column if field.kind in {"int", "long"} else pc.replace_substring(column, ".", "", max_replacements=1)
    plain = pc.or_kleene(pc.ascii_is_decimal(pc.ascii_ltrim(digits, "-")), pc.is_null(column))
    if not pc.any(plain).as_py():  # times and the like have no such form
        plain = pc.invert(plain)
    doubtful = pc.indices_nonzero(pc.invert(plain)).to_pylist()
    bad = [row for row in doubtful if not _casts(column[row : row + 1], field.arrow)]
    rest = pc.if_else(plain, column, pa.scalar(None, pa.string()))
    todo = [(0, rest)]
    while todo:  # plain in form and yet bad, such as a number too large: halve down to it
        offset, part = todo.pop()
        if not _casts(part, field.arrow):
            half = len(part) // 2
            if half:
                todo += [(offset, part[:half]), (offset + half, part[half:])]
            else:
                bad.append(offset)
    return np.array(sorted(bad), np.int64)


def _casts(part: pa.StringArray, to: pa.DataType) -> bool:
    try:
        pc.cast(part, to)
    except pa.ArrowInvalid:
        return False
    return True


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


def kept(columns: list[pa.Array], schema: AvroSchema, rejects: Rejects) -> tuple[pa.RecordBatch, npt.NDArray[np.int64]]:
    """The rows that are not rejected, and their numbers."""
    rows = len(columns[0])
    frame = pa.RecordBatch.from_arrays(columns, names=[f.name for f in schema.fields])
    numbers = np.arange(rows)
    if rejects.reasons:
        good = np.ones(rows, bool)
        good[list(rejects.reasons)] = False
        frame, numbers = frame.filter(pa.array(good)), numbers[good]
    return pa.RecordBatch.from_arrays(frame.columns, schema=schema.arrow), numbers


def _short(value: pa.Scalar) -> str:
    text = str(value.as_py())
    return text if len(text) <= 60 else text[:57] + "..."
