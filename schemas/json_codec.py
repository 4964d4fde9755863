"""JSON objects <-> Arrow batches of one schema, columnar, with every bad record named.

The same interface as `schemas.codec`: the schema says which fields an object has and of which type. Numbers are strict:
12.7 is no int. Times are texts with a zone, or numbers in the field's unit as Avro's own JSON has them; dates are texts
or days; decimals are texts or numbers. Other fields are left out, a missing field takes its default.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as arrow_json

from schemas.avro import AvroSchema, Field
from schemas.codec import Decoded, Failure, Reason
from schemas.resolve import default_value

_TIMES = {"timestamp-millis", "timestamp-micros", "date"}
_PYTHON: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "enum": (str,),
    "int": (int,),
    "long": (int,),
    "float": (float, int),
    "double": (float, int),
    "boolean": (bool,),
    "decimal": (str, float, int),
    "date": (str, int),
    "timestamp-millis": (str, int),
    "timestamp-micros": (str, int),
}
_BITS = {"int": 31, "long": 63}


class JsonEncoder:
    """Writes one compact JSON object per row."""

    def encode(self, schema: AvroSchema, schema_id: int, batch: pa.RecordBatch) -> pa.BinaryArray:
        """See `schemas.codec.Encoder.encode`; no schema id is written."""
        columns = [_plain(batch.column(index).cast(f.arrow), f) for index, f in enumerate(schema.fields)]
        for column, field in zip(columns, schema.fields, strict=True):
            if not field.nullable and None in column:
                raise ValueError(f'column "{field.name}" has null values and its schema allows none')
        names = [field.name for field in schema.fields]
        dump = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
        rows = (dump(dict(zip(names, row, strict=True))).encode() for row in zip(*columns, strict=True))
        return pa.array(rows, pa.binary(), size=batch.num_rows)


def _plain(column: pa.Array, field: Field) -> list[Any]:
    if field.kind in {"decimal", "date"}:
        column = column.cast(pa.string())
    elif field.kind in _TIMES:
        column = column.cast(pa.int64())
    return list(column.to_pylist())


class JsonDecoder:
    """Reads objects with the fields of `reader`."""

    def __init__(self, reader: AvroSchema) -> None:
        self._reader = reader

    def decode(self, payloads: list[bytes | None]) -> Decoded:
        """See `schemas.codec.Decoder.decode`."""
        failures: list[Failure] = []
        texts: list[bytes] = []
        where: list[int] = []
        for index, payload in enumerate(payloads):
            if not payload:
                failures.append(Failure(index, "empty_value", "null" if payload is None else "no bytes"))
                continue
            text = payload if payload[0] == 123 and payload[-1] == 125 else payload.strip()
            if text[:1] == b"{" and text[-1:] == b"}":
                texts.append(text)
                where.append(index)
            else:
                failures.append(Failure(index, *_why(payload, self._reader, "not one JSON object")))
        frames, rows = self._read(texts, np.array(where, np.int64), failures)
        if not frames:
            failures.sort(key=lambda failure: failure.index)
            return Decoded(_none(self._reader), rows, failures)
        table = pa.Table.from_batches(frames).combine_chunks()
        frame = table.to_batches()[0] if table.num_rows else _none(self._reader)
        failures.sort(key=lambda failure: failure.index)
        return Decoded(frame, None if len(rows) == len(payloads) else rows, failures)

    def _read(
        self, texts: list[bytes], where: npt.NDArray[np.int64], failures: list[Failure]
    ) -> tuple[list[pa.RecordBatch], npt.NDArray[np.int64]]:
        """Batches and their indexes, in order; parts that do not parse are halved down to the record."""
        frames: list[pa.RecordBatch] = []
        rows: list[npt.NDArray[np.int64]] = [np.empty(0, np.int64)]
        todo = [(0, len(texts))] if texts else []
        while todo:
            start, stop = todo.pop()
            part = texts[start:stop]
            try:
                frame, bad = self._parse(part)
            except (pa.ArrowInvalid, UnicodeDecodeError) as error:  # bad JSON or values; bytes that are no text
                middle = (start + stop) // 2
                if stop - start == 1:
                    failures.append(Failure(int(where[start]), *_why(part[0], self._reader, str(error))))
                else:
                    todo += [(middle, stop), (start, middle)]
                continue
            here = where[start:stop]
            if bad is not None:
                failures += [Failure(int(here[row]), *_why(part[row], self._reader, "")) for row in np.flatnonzero(bad)]
                frame, here = frame.filter(pa.array(~bad)), here[~bad]
            frames.append(frame)
            rows.append(here)
        return frames, np.concatenate(rows)

    def _parse(self, texts: list[bytes]) -> tuple[pa.RecordBatch, npt.NDArray[np.bool_] | None]:
        """All texts as one batch, and which rows have a value that the schema does not allow.

        Raises `ArrowInvalid` or `UnicodeDecodeError` when one is no object, or has a value of another type. Times are
        read as texts or numbers, as the first text has them.
        """
        data = b"\n".join(texts)
        data.decode()  # Arrow takes any bytes for text
        inside = data.count(b"\n") >= len(texts) or b"\r" in data
        first = _object(texts[0])
        types = [pa.field(f.name, _read_as(f, first)) for f in self._reader.fields]
        table = arrow_json.read_json(
            pa.BufferReader(data),
            read_options=arrow_json.ReadOptions(use_threads=False, block_size=len(data) + 1),
            parse_options=arrow_json.ParseOptions(
                explicit_schema=pa.schema(types), unexpected_field_behavior="ignore", newlines_in_values=inside
            ),
        )
        if table.num_rows != len(texts):  # no text makes less than one row, so one has made more
            raise pa.ArrowInvalid("more than one JSON object")
        columns, bad = [], None
        for index, field in enumerate(self._reader.fields):
            column = _typed(table.column(index).combine_chunks(), field)
            if column.null_count and field.has_default and field.default is not None:
                column = _with_default(column, field, texts)
            wrong = _not_allowed(column, field)
            if wrong is not None:
                bad = wrong if bad is None else bad | wrong
            columns.append(column)
        return pa.RecordBatch.from_arrays(columns, schema=self._reader.arrow), bad


def _none(schema: AvroSchema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], f.arrow) for f in schema.fields], schema=schema.arrow)


def _object(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text.decode())
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _read_as(field: Field, first: dict[str, Any]) -> pa.DataType:
    if field.kind not in _TIMES:
        return field.arrow
    return pa.int64() if isinstance(first.get(field.name), int) else pa.string()


def _typed(column: pa.Array, field: Field) -> pa.Array:
    if field.kind not in _TIMES or column.type == field.arrow:
        return column
    if pa.types.is_string(column.type):
        return pc.cast(column, field.arrow)  # a text without zone is an error
    return column.cast(pa.int32()).view(field.arrow) if field.kind == "date" else column.view(field.arrow)


def _with_default(column: pa.Array, field: Field, texts: list[bytes]) -> pa.Array:
    """A field that is missing takes its default; one that is null stays null."""
    missing = np.zeros(len(column), bool)
    for row in pc.indices_nonzero(pc.is_null(column)).to_pylist():
        missing[row] = field.name not in _object(texts[row])
    return pc.if_else(pa.array(missing), default_value(field), column)


def _not_allowed(column: pa.Array, field: Field) -> npt.NDArray[np.bool_] | None:
    """Rows with a null where none may be, or a text that is no symbol."""
    wrong = None
    if column.null_count and not field.nullable:
        wrong = pc.is_null(column)
    if field.kind == "enum":
        known = pc.is_in(column, value_set=pa.array(field.symbols, pa.string()))
        if not pc.all(known, min_count=0).as_py():
            other = pc.and_(pc.invert(known), pc.is_valid(column))
            wrong = other if wrong is None else pc.or_(wrong, other)
    if wrong is None:
        return None
    found: npt.NDArray[np.bool_] = wrong.to_numpy(zero_copy_only=False)
    return found if found.any() else None


def _why(text: bytes, schema: AvroSchema, otherwise: str) -> tuple[Reason, str]:
    """What is wrong with a record that could not be read."""
    try:
        found = json.loads(text.decode())
    except UnicodeDecodeError as error:
        return "not_utf8", f"byte 0x{text[error.start]:02x} at {error.start}: {error.reason}"
    except (ValueError, RecursionError) as error:
        return "bad_json", str(error)
    if not isinstance(found, dict):
        return "bad_json", f"a {type(found).__name__}, not an object"
    return next(iter(_wrong(found, schema.fields)), ("bad_json", otherwise))


def _wrong(found: dict[str, Any], fields: Iterable[Field]) -> Iterable[tuple[Reason, str]]:
    for field in fields:
        value = found.get(field.name)
        if value is None:
            if field.nullable or (field.name not in found and field.has_default):
                continue
            absent: Reason = "missing_value" if field.name in found else "missing_column"
            yield absent, f"{field.name} is {'null' if field.name in found else 'not there'}"
        elif type(value) not in _PYTHON[field.kind] or not _fits(value, field):
            shown = json.dumps(value)
            shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
            if field.kind == "enum" and isinstance(value, str):
                yield "bad_enum", f"{field.name}: {shown} is none of {', '.join(field.symbols)}"
            else:
                yield "wrong_type", f"{field.name}: {shown} is not of type {field.kind}"


def _fits(value: Any, field: Field) -> bool:
    if field.kind == "enum":
        return value in field.symbols
    if field.kind in _BITS:
        return bool(-(1 << _BITS[field.kind]) <= value < 1 << _BITS[field.kind])
    try:
        if field.kind == "decimal":
            pc.cast(pa.array([str(value)]), field.arrow)
        elif field.kind in _TIMES and isinstance(value, str):
            pc.cast(pa.array([value]), field.arrow)
        elif field.kind == "string":
            value.encode()
    except (pa.ArrowInvalid, UnicodeEncodeError):
        return False
    return True
