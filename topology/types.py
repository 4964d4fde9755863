"""What DuckDB says of expressions: their types, and whether their functions depend on their arguments alone."""

from __future__ import annotations

from functools import cache

import duckdb

from headrace.errors import DeclarationError
from schemas import AvroSchema
from topology.duck import connect, quoted
from topology.expression import NOT_THE_RECORD, Expression, row_expression

_DUCK_TYPES = {
    "string": "VARCHAR",
    "enum": "VARCHAR",
    "int": "INTEGER",
    "long": "BIGINT",
    "float": "FLOAT",
    "double": "DOUBLE",
    "boolean": "BOOLEAN",
    "bytes": "BLOB",
    "date": "DATE",
    "timestamp-millis": "TIMESTAMP WITH TIME ZONE",
    "timestamp-micros": "TIMESTAMP WITH TIME ZONE",
}


class Types:
    """The types of expressions over a schema's columns, as DuckDB sees them."""

    def __init__(self, schema: AvroSchema) -> None:
        self.columns = {
            field.name: _DUCK_TYPES.get(field.kind) or f"DECIMAL({field.precision},{field.scale})"
            for field in schema.fields
        }
        nulls = ", ".join(f"CAST(NULL AS {kind}) AS {quoted(name)}" for name, kind in self.columns.items())
        self._frame = f"(SELECT {nulls} LIMIT 0)"

    def of(self, expression: Expression, place: str) -> str:
        """DuckDB's type of an expression; a `DeclarationError` starting with `place` when it does not bind."""
        try:
            described = _duck().execute(f"DESCRIBE SELECT ({expression.sql}) AS x FROM {self._frame}").fetchall()
        except duckdb.Error as error:
            line = str(error).splitlines()[0].rstrip(".")
            raise DeclarationError(f"{place}: DuckDB refuses {expression.sql}: {line}") from error
        return str(described[0][1])


@cache
def _duck() -> duckdb.DuckDBPyConnection:
    return connect()


@cache
def _stability() -> dict[str, str]:
    """DuckDB's functions that are not a pure function of their arguments, with what they are."""
    rows = _duck().execute(
        "SELECT DISTINCT function_name, stability FROM duckdb_functions() "
        "WHERE function_type = 'scalar' AND stability <> 'CONSISTENT'"
    )
    return dict(rows.fetchall())


def condition(text: str, schema: AvroSchema, schema_name: str, types: Types, place: str) -> Expression:
    """`text` as a condition over one record; raises `DeclarationError` starting with `place`."""
    expression = row_expression(text, schema, schema_name, place)
    refuse_unstable(expression, place)
    found = types.of(expression, place)
    if found != "BOOLEAN":
        raise DeclarationError(f'{place}: "{text}" is {found}, a condition is true or false; compare it with something')
    return expression


def refuse_unstable(expression: Expression, place: str) -> None:
    """Refuse functions of DuckDB that are no pure function of their arguments."""
    for name in expression.functions:
        if name in _stability():
            raise DeclarationError(f"{place}: {name}() {NOT_THE_RECORD}")
