"""One record as JSON that a person reads and edits, and back into the bytes of its topic."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from headrace.errors import UsageError
from schemas.avro import AvroSchema, Field, did_you_mean
from schemas.formats import Format, decoder, encoder
from schemas.json_codec import JsonDecoder

_AS_TEXT = {"decimal", "date", "timestamp-millis", "timestamp-micros"}


def to_json(payload: bytes | None, form: Format, schema: AvroSchema, lookup: Callable[[int], AvroSchema]) -> str:
    """A record as indented JSON; `UsageError` for one that cannot be read. lookup: the writer's schema of an id.

    Times are texts in UTC and decimals texts, so that `from_json` reads them as they were.
    """
    decoded = decoder(form, schema, lookup).decode([payload])
    for failure in decoded.failures:
        raise UsageError(f"{failure.reason}: {failure.detail}")
    if form == "json":  # with fields that the schema does not have
        return json.dumps(json.loads(payload or b""), indent=2, ensure_ascii=False)
    _no_bytes(schema)
    columns = zip(schema.fields, decoded.frame.columns, strict=True)
    return json.dumps({f.name: _plain(column, f) for f, column in columns}, indent=2, ensure_ascii=False)


def from_json(text: bytes, form: Format, schema: AvroSchema, schema_id: int) -> bytes:
    """The bytes of a record with these values; `UsageError` says what does not fit the schema."""
    _no_bytes(schema)
    decoded = JsonDecoder(schema).decode([text])
    for failure in decoded.failures:
        raise UsageError(f"{failure.reason}: {failure.detail}")
    values: dict[str, Any] = json.loads(text)
    if form == "json":
        return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()
    for name in values:
        if name not in schema.by_name:
            raise UsageError(f'the schema has no field "{name}"{did_you_mean(name, sorted(schema.by_name))}')
    found: bytes = encoder(form).encode(schema, schema_id, decoded.frame)[0].as_py()
    return found


def _plain(column: pa.Array, field: Field) -> Any:
    return (column.cast(pa.string()) if field.kind in _AS_TEXT else column)[0].as_py()


def _no_bytes(schema: AvroSchema) -> None:
    for field in schema.fields:
        if field.kind == "bytes":
            raise UsageError(f'field "{field.name}" holds bytes, which JSON does not; give the record with --payload')
