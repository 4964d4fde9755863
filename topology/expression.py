"""SQL text of declarations: parsed, checked and given its columns.

The text itself runs, in DuckDB, with its column names quoted; sqlglot only reads it. Its normal form (one spelling for
equal texts) goes into the table's version.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.annotate_types import annotate_types
from sqlglot.tokenizer_core import Token, TokenType

from headrace.errors import DeclarationError
from schemas.avro import AvroSchema, did_you_mean
from topology.duck import quoted

logging.getLogger("sqlglot").setLevel(logging.ERROR)  # its warnings are about other dialects than DuckDB's

AGGREGATES = {
    exp.Sum: "sum",
    exp.Count: "count",
    exp.Min: "min",
    exp.Max: "max",
    exp.Avg: "avg",
    exp.Stddev: "stddev_samp",
    exp.StddevSamp: "stddev_samp",
    exp.StddevPop: "stddev_pop",
    exp.Variance: "var_samp",
    exp.VariancePop: "var_pop",
    exp.First: "first",
    exp.Last: "last",
}
_SYNTAX = {
    "cast",
    "try_cast",
    "decimal",
    "numeric",
    "in",
    "and",
    "or",
    "not",
    "when",
    "then",
    "else",
    "case",
    "between",
}
_ONLY = (
    "use one of sum, count, count(distinct ...), min, max, avg, first, last, stddev, stddev_pop, var_samp, var_pop "
    "over a row expression"
)

# Constructs in which the text itself asks for a null; elsewhere a null out of values is a failed expression.
_ASKS_FOR_NULL = (exp.Case, exp.If, exp.Nullif, exp.TryCast, exp.Null)
_NOT_A_ROW = {
    exp.Query: "a subquery",
    exp.Window: "a window function",
    exp.Placeholder: "a parameter",
    exp.Parameter: "a parameter",
    exp.Star: "a star",
    exp.Lambda: "a lambda",
    exp.Distinct: "distinct",
}
_CHANCE = (exp.Rand, exp.Randn, exp.Uuid)
_CLOCK_OR_CHANCE = (
    exp.CurrentTimestamp,
    exp.CurrentDate,
    exp.CurrentTime,
    exp.CurrentDatetime,
    exp.CurrentUser,
    exp.Localtime,
    exp.Localtimestamp,
    *_CHANCE,
)


@dataclass(frozen=True)
class Expression:
    """A row expression: `sql` runs in DuckDB over the columns named; `canonical` is equal for equal meanings."""

    sql: str
    canonical: str
    columns: tuple[str, ...]
    functions: tuple[str, ...]
    asks_for_null: bool


@dataclass(frozen=True)
class Measure:
    """An aggregate over a row expression; the expression is None in count(*). function: also `count distinct`."""

    function: str
    over: Expression | None


def row_expression(text: str, schema: AvroSchema, schema_path: str, place: str) -> Expression:
    """`text` as an expression over one record; raises `DeclarationError` starting with `place`."""
    tokens = _tokens(text, place)
    return _checked(text, tokens, schema, schema_path, place)


def falls_back(expression: Expression) -> bool:
    """Whether it is a coalesce that ends in a literal, and so never null."""
    node = sqlglot.parse_one(expression.canonical, read="duckdb")
    last = node.expressions[-1] if isinstance(node, exp.Coalesce) and node.expressions else None
    return isinstance(last, exp.Literal | exp.Boolean)


def substituted(text: str, values: Mapping[str, str], schema: AvroSchema, schema_path: str, place: str) -> str:
    """`text` over one record of `schema`, as SQL with each column replaced by its value's SQL."""
    expression = row_expression(text, schema, schema_path, place)
    node = _parse(text, place)
    return _with_columns(text, node, {name: f"({values[name]})" for name in expression.columns})


def measure(text: str, schema: AvroSchema, schema_path: str, place: str) -> Measure:
    """`text` as one mergeable aggregate over a row expression; raises `DeclarationError` starting with `place`."""
    tokens = _tokens(text, place)
    node = _parse(text, place)
    function = AGGREGATES.get(type(node))
    if function is None:
        raise DeclarationError(f'{place}: "{text}" {_why_no_measure(node)}; {_ONLY}')
    if node.find(exp.Order):
        raise DeclarationError(
            f"{place}: {function} has an order of its own; first and last go by event time, leave it out"
        )
    before = tokens[1]
    if isinstance(node.this, exp.Distinct):
        if function != "count":
            raise DeclarationError(f"{place}: {function} has no distinct; only count(distinct ...) has")
        function, before = "count distinct", tokens[2]
    inner = text[before.end + 1 : tokens[-1].start].strip()
    if function == "count" and inner == "*":
        return Measure("count", None)
    if not inner or node.expressions or _commas(tokens):
        raise DeclarationError(f'{place}: "{text}": {function} takes one expression')
    return Measure(function, _checked(inner, _tokens(inner, place), schema, schema_path, place))


def relation(text: str, columns: Mapping[str, str], table: str, place: str) -> str:
    """`text` as a condition that Postgres evaluates over one row of a table, with its column names quoted.

    columns: Postgres type by name. The text may read the clock, for it judges rows and makes none. Raises
    `DeclarationError` starting with `place`.
    """
    _tokens(text, place, "postgres")
    node = _parse(text, place, "postgres")
    for kind, what in _NOT_A_ROW.items():
        if node.find(kind):
            raise DeclarationError(f'{place}: "{text}" has {what}; a condition sees one row and nothing else')
    if node.find(exp.AggFunc):
        raise DeclarationError(f'{place}: "{text}" has an aggregate; a condition sees one row and nothing else')
    if node.find(*_CHANCE):
        raise DeclarationError(f'{place}: "{text}" depends on chance; compare columns')
    if not node.find(exp.Column):
        raise DeclarationError(f'{place}: "{text}" names no column, so it is the same for every row; compare columns')
    _check_names(node, list(columns), f"table {table}", place)
    typed = node.transform(
        lambda n: exp.cast(n, columns[n.name], dialect="postgres") if isinstance(n, exp.Column) else n
    )
    found = annotate_types(typed, dialect="postgres").type
    if found and not found.is_type("boolean", "unknown", "null"):
        raise DeclarationError(f'{place}: "{text}" is {found.sql().lower()}, a condition is true or false; compare it')
    return _quote_columns(text, node)


def tree(text: str, columns: Sequence[str], table: str, place: str) -> Any:
    """The syntax tree of `text` over columns of a table, in Postgres' SQL; `DeclarationError` starting with `place`."""
    _tokens(text, place, "postgres")
    node = _parse(text, place, "postgres")
    _check_names(node, columns, f"table {table}", place)
    return node


def _why_no_measure(node: Any) -> str:
    if isinstance(node, exp.Filter):
        return "has a filter; put the condition inside, as in sum(case when ... then x end)"
    if isinstance(node, exp.Window):
        return "is a window function"
    if isinstance(node, exp.AggFunc):
        return (
            f"cannot be kept up to date: {node.sql_name().lower()} is not among the aggregates that merge partial rows"
        )
    if node.find(exp.AggFunc):
        return "computes with an aggregate; put the arithmetic inside it, or into a query over the table"
    return "is not an aggregate"


def _commas(tokens: list[Token]) -> bool:
    depth = 0
    for token in tokens[2:-1]:
        depth += token.token_type in {TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE}
        depth -= token.token_type in {TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE}
        if depth == 0 and token.token_type == TokenType.COMMA:
            return True
    return False


def _tokens(text: str, place: str, dialect: str = "duckdb") -> list[Token]:
    try:
        tokens = sqlglot.tokenize(text, read=dialect)
    except SqlglotError as error:
        raise DeclarationError(f'{place}: "{text}" is not SQL: {_first_line(error)}') from error
    if any(token.comments for token in tokens):
        raise DeclarationError(f"{place}: a comment inside the SQL text; write it in the Python file")
    if any(token.token_type == TokenType.SEMICOLON for token in tokens):
        raise DeclarationError(f'{place}: "{text}" has a semicolon; write one expression')
    if not tokens:
        raise DeclarationError(f"{place}: the SQL text is empty; write an expression")
    return tokens


def _parse(text: str, place: str, dialect: str = "duckdb") -> Any:
    try:
        found = sqlglot.parse(text, read=dialect)
    except SqlglotError as error:
        raise DeclarationError(f'{place}: "{text}" is not SQL: {_first_line(error)}') from error
    if len(found) != 1 or found[0] is None:
        raise DeclarationError(f'{place}: "{text}" is not one expression')
    return found[0]


def _checked(text: str, tokens: list[Token], schema: AvroSchema, schema_path: str, place: str) -> Expression:
    node = _parse(text, place)
    for kind, what in _NOT_A_ROW.items():
        if node.find(kind):
            raise DeclarationError(f'{place}: "{text}" has {what}; an expression sees one record and nothing else')
    if node.find(exp.AggFunc):
        raise DeclarationError(f'{place}: "{text}" has an aggregate where a row expression is needed; {_ONLY}')
    for found in node.find_all(*_CLOCK_OR_CHANCE):
        raise DeclarationError(f"{place}: {found.sql(dialect='duckdb')} {NOT_THE_RECORD}")
    if node.find(exp.Try):
        raise DeclarationError(f'{place}: "{text}" has TRY; leave it out, every expression is tried already')
    _check_columns(node, schema, schema_path, place)
    columns = _in_order(column.name for column in node.find_all(exp.Column))
    return Expression(
        sql=_quote_columns(text, node),
        canonical=node.sql(dialect="duckdb", identify=True, comments=False),
        columns=columns,
        functions=_functions(tokens),
        asks_for_null=node.find(*_ASKS_FOR_NULL) is not None,
    )


NOT_THE_RECORD = "does not depend on the record alone, so a second run would give other rows; use a column instead"


def _check_columns(node: Any, schema: AvroSchema, schema_path: str, place: str) -> None:
    _check_names(node, [field.name for field in schema.fields], schema_path, place)


def _check_names(node: Any, names: Sequence[str], where: str, place: str) -> None:
    for column in node.find_all(exp.Column):
        if column.name not in names or column.table:
            shown = column.sql(dialect="duckdb").strip('"')
            hint = did_you_mean(column.name, tuple(names))
            if column.this.quoted and "did you mean" not in hint:
                hint += f"; a text is written '{column.name}', in single quotes"
            raise DeclarationError(f'{place}: column "{shown}" does not exist in {where}{hint}')


def _quote_columns(text: str, node: Any) -> str:
    """The text with its column names quoted, and nothing else changed."""
    return _with_columns(text, node, {c.name: quoted(c.name) for c in node.find_all(exp.Column)})


def _with_columns(text: str, node: Any, written: Mapping[str, str]) -> str:
    spots = {(c.this.meta["start"], c.this.meta["end"], c.name) for c in node.find_all(exp.Column)}
    for start, end, name in sorted(spots, reverse=True):
        text = f"{text[:start]}{written[name]}{text[end + 1 :]}"
    return text


def _functions(tokens: list[Token]) -> tuple[str, ...]:
    """Names that are called: a word before an opening parenthesis, when it is not syntax."""
    pairs = itertools.pairwise(tokens)
    words = [a.text.lower() for a, b in pairs if b.token_type == TokenType.L_PAREN and a.text.isidentifier()]
    return _in_order(word for word in words if word not in _SYNTAX)


def _in_order(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].split(". Line")[0].rstrip(".")
