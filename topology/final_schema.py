"""The Avro schema of final rows: the table's columns, of sessions whether the row is withdrawn, then the revision."""

from __future__ import annotations

import json
from collections.abc import Sequence

from headrace.errors import DeclarationError
from schemas.avro import AvroSchema, parse
from topology.derived_schema import AVRO
from topology.final import WITHDRAWN, FinalTopic
from topology.program import Column
from topology.state import decimal_of

REVISION = "revision"


def schema_of(topic: FinalTopic, columns: Sequence[Column], place: str) -> AvroSchema:
    """The schema of the records of a table that has these columns; raises `DeclarationError`."""
    table = topic.of
    known = {*table.by, "windowStart", "windowEnd", "windowNumber", "windowRecords"}
    fields = [_field(c, c.name not in known, f"{place}: {table.name}.emit: column {c.name}") for c in columns]
    fields += [{"name": WITHDRAWN, "type": "boolean"}] if topic.withdraws else []
    fields.append({"name": REVISION, "type": "int"})
    name = "".join(c if c.isascii() and c.isalnum() else "_" for c in topic.name)
    record = {"type": "record", "name": name if not name[0].isdigit() else f"_{name}", "fields": fields}
    return parse(json.dumps(record), topic.shape_name)


def _field(column: Column, nullable: bool, place: str) -> dict[str, object]:
    decimal = decimal_of(column.duck_type)
    kind = (
        {"type": "bytes", "logicalType": "decimal", "precision": decimal[0], "scale": decimal[1]}
        if decimal
        else AVRO.get(column.duck_type)
    )
    if kind is None:
        raise DeclarationError(f"{place}: {column.duck_type} has no Avro type; cast it, as to timestamptz or varchar")
    return {"name": column.name, "type": ["null", kind] if nullable else kind}
