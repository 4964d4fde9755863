"""The Avro schema of final rows: the table's columns, of sessions whether the row is withdrawn, then the revision."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from headrace.errors import DeclarationError
from schemas.avro import AvroSchema, parse
from topology.derived_schema import AVRO
from topology.emitted import EmittedTopic
from topology.final import WITHDRAWN, FinalTopic
from topology.program import Column
from topology.state import decimal_of

REVISION = "revision"


def schema_of(topic: FinalTopic, columns: Sequence[Column], place: str) -> AvroSchema:
    """The schema of the records of a table that has these columns; raises `DeclarationError`."""
    withdrawn = [{"name": WITHDRAWN, "type": "boolean"}] if topic.withdraws else []
    return rows_schema(topic, columns, [*withdrawn, {"name": REVISION, "type": "int"}], place)


def rows_schema(
    topic: EmittedTopic, columns: Sequence[Column], more: Sequence[Mapping[str, object]], place: str
) -> AvroSchema:
    """The schema of a table's rows with `more` fields after its columns; raises `DeclarationError`."""
    table = topic.of
    known = {*table.by, "windowStart", "windowEnd", "windowNumber", "windowRecords"}
    fields = [field_of(c, c.name not in known, f"{place}: {table.name}.emit: column {c.name}") for c in columns]
    fields.extend(more)
    name = "".join(c if c.isascii() and c.isalnum() else "_" for c in topic.name)
    record = {"type": "record", "name": name if not name[0].isdigit() else f"_{name}", "fields": fields}
    return parse(json.dumps(record), topic.shape_name)


def field_of(column: Column, nullable: bool, place: str) -> Mapping[str, object]:
    """The Avro field of a column; raises `DeclarationError` starting with `place` where Avro has no such type."""
    decimal = decimal_of(column.duck_type)
    kind = (
        {"type": "bytes", "logicalType": "decimal", "precision": decimal[0], "scale": decimal[1]}
        if decimal
        else AVRO.get(column.duck_type)
    )
    if kind is None:
        raise DeclarationError(f"{place}: {column.duck_type} has no Avro type; cast it, as to timestamptz or varchar")
    return {"name": column.name, "type": ["null", kind] if nullable else kind}
