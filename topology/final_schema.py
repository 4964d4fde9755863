"""The Avro schema of final rows: the table's columns, then the revision."""

from __future__ import annotations

import json
from collections.abc import Sequence

from headrace.errors import DeclarationError
from schemas.avro import AvroSchema, parse
from topology.aggregate import Aggregate
from topology.derived_schema import AVRO
from topology.final import FinalTopic
from topology.program import Column
from topology.state import decimal_of

REVISION = "revision"


def schema_of(topic: FinalTopic) -> AvroSchema:
    """The schema of a topic's records. What the columns are is known when the table is compiled."""
    from topology.compile import compile_pipeline

    table = topic.of
    compiled = compile_pipeline(table.source.pipeline_name, table.source, [table], place=topic.shape_name)
    fields = fields_of(table, compiled.tables[0].columns, topic.shape_name)
    name = "".join(c if c.isascii() and c.isalnum() else "_" for c in topic.name)
    record = {"type": "record", "name": name if not name[0].isdigit() else f"_{name}", "fields": fields}
    return parse(json.dumps(record), topic.shape_name)


def fields_of(table: Aggregate, columns: Sequence[Column], place: str) -> list[dict[str, object]]:
    """The fields of the records of a table with these columns; raises `DeclarationError`."""
    known = {*table.by, "windowStart", "windowEnd"}
    fields = [_field(c, c.name not in known, f"{place}: {table.name}.emit: column {c.name}") for c in columns]
    return [*fields, {"name": REVISION, "type": "int"}]


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
