"""The Avro schema of a derived topic: made from its columns, or declared and held against them."""

from __future__ import annotations

import json
import re
from typing import Any

from headrace.errors import DeclarationError
from schemas.avro import AvroSchema, Field, did_you_mean, parse
from topology.derived import Derived
from topology.expression import Expression, falls_back, row_expression
from topology.state import decimal_of
from topology.types import Types, refuse_unstable

AVRO: dict[str, Any] = {
    "VARCHAR": "string",
    "TINYINT": "int",
    "SMALLINT": "int",
    "UTINYINT": "int",
    "USMALLINT": "int",
    "INTEGER": "int",
    "UINTEGER": "long",
    "BIGINT": "long",
    "FLOAT": "float",
    "DOUBLE": "double",
    "BOOLEAN": "boolean",
    "BLOB": "bytes",
    "DATE": {"type": "int", "logicalType": "date"},
    "TIMESTAMP WITH TIME ZONE": {"type": "long", "logicalType": "timestamp-micros"},
}
# Fields that hold every value of a type.
_FITS = {
    "string": {"string", "enum"},
    "int": {"int", "long"},
    "long": {"long"},
    "float": {"float", "double"},
    "double": {"double"},
}


def schema_of(derived: Derived, place: str | None = None) -> AvroSchema:
    """The schema that follows from the columns; `place` stands first in a `DeclarationError`."""
    where = f"{place}: {derived.name}" if place else derived.name
    if not derived.columns:
        raise DeclarationError(f'{where}.columns: there is none; add one, such as "{derived.key}": "{derived.key}"')
    source = derived.source.shape
    types = Types(source)
    fields = [
        _field(
            name,
            expression_of(derived, name, source, where),
            source,
            types,
            derived.beside,
            f"{where}.columns.{name}",
        )
        for name in derived.columns
    ]
    if derived.identity:
        fields.insert(0, {"name": derived.identity, "type": "string"})
    record = {"type": "record", "name": _record_name(derived.name), "fields": fields}
    return parse(json.dumps(record), f"{where}.columns")


def expression_of(derived: Derived, name: str, source: AvroSchema, where: str) -> Expression:
    """The parsed text of a column."""
    place = f"{where}.columns.{name}"
    expression = row_expression(derived.columns[name], source, derived.source.shape_name, place)
    refuse_unstable(expression, place)
    return expression


def copied(expression: Expression, source: AvroSchema) -> Field | None:
    """The source's field when the column is that field as it is."""
    plain = len(expression.columns) == 1 and expression.sql == f'"{expression.columns[0]}"'
    return source.by_name[expression.columns[0]] if plain else None


def _field(
    name: str, expression: Expression, source: AvroSchema, types: Types, nullable: bool, place: str
) -> dict[str, Any]:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise DeclarationError(f'{place}: field name "{name}" does not fit; a letter or "_", then letters, digits, "_"')
    same = copied(expression, source)
    if same is not None:
        (declared,) = (item for item in source.parsed["fields"] if item["name"] == same.name)
        kept = {"name": name, "type": declared["type"]}
        return kept | {part: declared[part] for part in ("doc",) if part in declared}
    duck_type = types.of(expression, place)
    decimal = decimal_of(duck_type)
    kind = (
        {"type": "bytes", "logicalType": "decimal", "precision": decimal[0], "scale": decimal[1]}
        if decimal
        else AVRO.get(duck_type)
    )
    if kind is None:
        raise DeclarationError(
            f"{place}: {duck_type} has no Avro type; cast it to one of {', '.join(sorted(AVRO))} or DECIMAL"
        )
    return {"name": name, "type": ["null", kind] if nullable or may_be_null(expression, source) else kind}


def may_be_null(expression: Expression, source: AvroSchema) -> bool:
    """Whether a record that the expression does not fail on can have a null there."""
    may = expression.asks_for_null or any(source.by_name[name].nullable for name in expression.columns)
    return may and not falls_back(expression)


def check_declared(derived: Derived, declared: AvroSchema, made: AvroSchema, where: str) -> None:
    """Hold a declared schema against the one that follows from the columns: every value must fit."""
    for name in made.by_name:
        if name not in declared.by_name:
            hint = did_you_mean(name, list(declared.by_name))
            raise DeclarationError(f'{where}.columns: field "{name}" does not exist in {derived.schema}{hint}')
    for field in declared.fields:
        if field.name not in made.by_name:
            raise DeclarationError(
                f'{where}.columns: field "{field.name}" of {derived.schema} is missing; add "{field.name}": "..."'
            )
        _check_fits(made.by_name[field.name], field, f"{where}.columns.{field.name}", derived.schema)


def _check_fits(made: Field, field: Field, place: str, path: str) -> None:
    if made.kind == field.kind == "decimal":
        fits = made.scale == field.scale and made.precision <= field.precision
    elif made.kind == field.kind == "enum":
        fits = True  # a symbol that the field does not have is a dead letter
    else:
        fits = field.kind in _FITS.get(made.kind, {made.kind})
    if not fits:
        raise DeclarationError(
            f"{place}: it is {_named(made)} and {path} has {_named(field)}; cast it, or change the file"
        )
    if made.nullable and not field.nullable:
        raise DeclarationError(
            f"{place}: it may be null and {path} takes none; use coalesce(..., ...), or change the file"
        )


def _named(field: Field) -> str:
    return f"decimal({field.precision},{field.scale})" if field.kind == "decimal" else field.kind


def _record_name(topic: str) -> str:
    parts = [part for part in re.split(r"[^A-Za-z0-9]+", topic) if part]
    name = "".join(part[0].upper() + part[1:] for part in parts) or "Record"
    return name if not name[0].isdigit() else f"T{name}"
