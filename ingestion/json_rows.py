"""JSON, one object per line -> typed rows, with the line number of each and the bytes of the bad."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from ingestion import columns
from ingestion.batch import LARGEST_ROW, RejectedLine, too_large
from ingestion.errors import FileError
from ingestion.lines import LineFile
from ingestion.rows import Rows, not_utf8
from schemas.avro import AvroSchema, Field

_MISSING = object()
_PYTHON: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "enum": (str,),
    "int": (int,),
    "long": (int,),
    "float": (float, int),
    "double": (float, int),
    "boolean": (bool,),
    "bytes": (str,),
}
_OTHERS: tuple[type, ...] = (str, int, float)  # dates, times and decimals: read as text
_RANGES = {"int": 31, "long": 63}


class JsonRows:
    """Rows of a file of JSON lines. `names`: key of a field where the two differ. Other keys are left out."""

    def __init__(self, file: LineFile, schema: AvroSchema, names: Mapping[str, str], name: str) -> None:
        self._file = file
        self._schema = schema
        self._keys = {f.name: names.get(f.name, f.name) for f in schema.fields}
        first = file.peek(1)
        if not len(first):
            raise FileError(f"{name}: the file is empty; a JSON file has one object per line")
        if first.data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in first.data:
            raise FileError(f"{name}: this is not UTF-8 text; convert the file to UTF-8")

    def take(self, most: int) -> Rows | None:
        """The next rows, of about `most` lines; None at the end of the file."""
        lines = self._file.peek(most)
        if not len(lines):
            return None
        rejected: list[RejectedLine] = []
        objects: list[dict[str, Any]] = []
        indexes: list[int] = []
        for index, line in enumerate(lines.texts()):
            number = lines.first + index
            if not line.strip():
                continue
            if len(line) > LARGEST_ROW:
                rejected.append(too_large(number, line))
                continue
            try:
                found = json.loads(str(line, "utf-8-sig" if number == 1 else "utf-8"))
            except RecursionError:
                rejected.append(RejectedLine(number, line, "bad_json", "nested too deeply"))
                continue
            except UnicodeDecodeError:
                rejected.append(RejectedLine(number, line, "not_utf8", not_utf8(line) or "not UTF-8"))
                continue
            except ValueError as error:
                rejected.append(RejectedLine(number, line, "bad_json", str(error)))
                continue
            if not isinstance(found, dict):
                rejected.append(RejectedLine(number, line, "bad_json", f"a {type(found).__name__}, not an object"))
                continue
            objects.append(found)
            indexes.append(index)
        rejects = columns.Rejects()
        typed = [self._column(objects, field, rejects) for field in self._schema.fields]
        for row, (reason, detail) in rejects.reasons.items():
            rejected.append(RejectedLine(lines.first + indexes[row], lines[indexes[row]], reason, detail))
        frame, kept = columns.kept(typed, self._schema, rejects)
        numbers = np.array(indexes, np.int64)[kept] + lines.first
        self._file.consume(len(lines))
        position = lines.first - 1
        return Rows(position, position + len(lines), frame, numbers, sorted(rejected, key=_line), lines.last)

    def _column(self, objects: list[dict[str, Any]], field: Field, rejects: columns.Rejects) -> pa.Array:
        key = self._keys[field.name]
        values: list[Any] = [found.get(key, _MISSING) for found in objects]
        wanted = _PYTHON.get(field.kind, _OTHERS)
        types = set(map(type, values))
        if not types <= set(wanted) or field.kind in _RANGES or (int in types and float in wanted):
            values = [_checked(row, value, wanted, field, rejects) for row, value in enumerate(values)]
        if field.kind in {"string", "enum", "bytes"} or wanted is _OTHERS:
            return columns.of_text(_text(values, field, rejects), _lenient(field), rejects)
        return pa.array(values, field.arrow)


def _checked(row: int, value: Any, wanted: tuple[type, ...], field: Field, rejects: columns.Rejects) -> Any:
    """The value, or None when it is not one of the field's."""
    if type(value) in wanted:
        bits = _RANGES.get(field.kind, 1023 if type(value) is int and float in wanted else None)
        if bits is None or -(1 << bits) <= value < 1 << bits:
            return float(value) if bits == 1023 and wanted is not _OTHERS else value
        rejects.add(row, "wrong_type", f"{field.name}: {_shown(value)} does not fit {field.kind}")
    elif value is _MISSING:
        if field.has_default and field.kind in _PYTHON and field.kind != "bytes":
            return field.default
        if not field.nullable:
            rejects.add(row, "missing_column", f"{field.name} is not there")
    elif value is None:
        if not field.nullable:
            rejects.add(row, "missing_value", f"{field.name} is null")
    else:
        rejects.add(row, "wrong_type", f"{field.name}: {_shown(value)} is not of type {field.kind}")
    return None


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _text(values: list[Any], field: Field, rejects: columns.Rejects) -> pa.StringArray:
    try:
        return pa.array([_as_text(value, field) for value in values], pa.string())
    except UnicodeEncodeError:
        pass
    for row, value in enumerate(values):
        if isinstance(value, str) and not _encodable(value):
            rejects.add(row, "wrong_type", f"{field.name}: half of a surrogate pair is no character")
            values[row] = None
    return pa.array([_as_text(value, field) for value in values], pa.string())


def _as_text(value: Any, field: Field) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and field.kind.startswith("timestamp"):
        per_second = 1_000 if field.kind == "timestamp-millis" else 1_000_000
        seconds, rest = divmod(value, per_second)
        try:
            moment = datetime.fromtimestamp(seconds, UTC)
        except (ValueError, OverflowError, OSError):
            return str(value)
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest:0{len(str(per_second)) - 1}d}Z"
    return str(Decimal(repr(value))) if isinstance(value, float) else str(value)


def _lenient(field: Field) -> Field:
    """The field for a column whose missing values have been judged already."""
    return replace(field, null_at=0)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _line(rejected: RejectedLine) -> int:
    return rejected.line
