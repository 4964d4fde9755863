"""Derived columns: expressions over the other columns of a row, which Postgres computes when the view is read.

The text is not run as it is written: what it may consist of is a short list, and the SQL is made from it anew, so that
nothing depends on an engine's habits and no row makes a query fail. Numbers are `numeric`, whatever they were stored
as; a division by zero is null; texts are compared by bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlglot import exp

from headrace.errors import DeclarationError
from topology import postgres
from topology.aggregate import Aggregate
from topology.duck import quoted, text
from topology.expression import tree
from topology.program import Column
from topology.state import FLOATS, SMALL, WIDE, Kept, State, decimal_of
from topology.window import Window

Kind = Literal["number", "text", "boolean", "date", "timestamp", "instant", "null"]

_KINDS: dict[str, Kind] = {
    **dict.fromkeys([*SMALL, *WIDE, *FLOATS], "number"),
    "VARCHAR": "text",
    "BOOLEAN": "boolean",
    "DATE": "date",
    "TIMESTAMP": "timestamp",
    "TIMESTAMP WITH TIME ZONE": "instant",
}
_COLUMNS = {
    "number": ("DECIMAL(38,18)", "numeric"),
    "text": ("VARCHAR", 'text COLLATE "C"'),
    "boolean": ("BOOLEAN", "boolean"),
    "date": ("DATE", "date"),
    "timestamp": ("TIMESTAMP", "timestamp"),
    "instant": ("TIMESTAMP WITH TIME ZONE", "timestamptz"),
}
_ARITHMETIC: dict[Any, Callable[[str, str], str]] = {
    exp.Add: lambda a, b: f"({a} + {b})",
    exp.Sub: lambda a, b: f"({a} - {b})",
    exp.Mul: lambda a, b: f"({a} * {b})",
    exp.Div: lambda a, b: f"({a} / nullif({b}, 0))",
    exp.Mod: lambda a, b: f"mod({a}, nullif({b}, 0))",
}
_COMPARISON = {exp.EQ: "=", exp.NEQ: "<>", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">="}
_LOGIC = {exp.And: "AND", exp.Or: "OR"}
_OF_NUMBERS = {exp.Abs: "abs", exp.Ceil: "ceil", exp.Floor: "floor"}
_OF_SEVERAL = {exp.Coalesce: "coalesce", exp.Greatest: "greatest", exp.Least: "least"}
_MAY = (
    "use columns, numbers, texts, + - * / %, comparisons, between, in, is null, and, or, not, case, coalesce, nullif, "
    "abs, round, ceil, floor, greatest, least"
)


@dataclass(frozen=True)
class Computed:
    """A derived column as it is shown. uses: the columns it is computed from."""

    kept: Kept
    uses: tuple[str, ...]


@dataclass(frozen=True)
class _Operand:
    """A column that an expression may name: its SQL over the view's stored rows, with `{role}` for each state."""

    sql: str
    kind: Kind
    states: Mapping[str, State]


def parse(table: Aggregate, columns: Sequence[Column], place: str) -> dict[str, Any]:
    """The syntax tree of each derived column. columns: all others of the table."""
    names = [column.name for column in columns]
    return {name: tree(text, names, table.name, f"{place}.{name}") for name, text in table.derived.items()}


def meaning(trees: Mapping[str, Any]) -> dict[str, Any]:
    """What of derived columns gives other rows when it changes."""
    return {"derived": [[name, node.sql(dialect="postgres")] for name, node in trees.items()]} if trees else {}


def compute(
    trees: Mapping[str, Any], key: Sequence[Column], window: Window | None, kept: Sequence[Kept], place: str
) -> list[Computed]:
    """The derived columns of a table with these others; raises `DeclarationError` starting with `place`."""
    columns = _operands(key, window, kept)
    return [_computed(name, node, columns, f"{place}.{name}") for name, node in trees.items()]


def lineage(derived: Sequence[Computed], others: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """From which columns of the topic each column is made. others: what is known of all but the derived ones."""
    made = {
        one.kept.view.name: tuple(dict.fromkeys(origin for used in one.uses for origin in others[used]))
        for one in derived
    }
    return {**others, **made}


def _computed(name: str, node: Any, columns: Mapping[str, _Operand], place: str) -> Computed:
    uses = tuple(dict.fromkeys(column.name for column in node.find_all(exp.Column)))
    sql, kind = _Writer(columns, place).write(node)
    said = node.sql(dialect="postgres")
    if not uses:
        raise DeclarationError(f'{place}: "{said}" names no column, so it is the same in every row; leave it out')
    if kind == "null":
        raise DeclarationError(f'{place}: "{said}" is null in every row; leave it out')
    states = {role: state for used in uses for role, state in columns[used].states.items()}
    return Computed(Kept(states, Column(name, *_COLUMNS[kind]), sql), uses)


def _operands(key: Sequence[Column], window: Window | None, kept: Sequence[Kept]) -> dict[str, _Operand]:
    found = {column.name: _operand(f"s.{quoted(column.name)}", column, {}) for column in key}
    found |= {column.name: _operand(sql, column, {}) for column, sql in postgres.window_columns(window)}
    for one in kept:
        # Roles are names within one measure; here there are several.
        roles = {role: f"{one.view.name} {role}" for role in one.states}
        finish = one.finish.format(**{role: f"{{{name}}}" for role, name in roles.items()})
        states = {roles[role]: state for role, state in one.states.items()}
        found[one.view.name] = _operand(finish, one.view, states)
    return found


def _operand(sql: str, column: Column, states: Mapping[str, State]) -> _Operand:
    kind: Kind = "number" if decimal_of(column.duck_type) else _KINDS[column.duck_type]
    return _Operand(f"cast({sql} AS numeric)" if kind == "number" else f"({sql})", kind, states)


class _Writer:
    """Writes SQL for Postgres from a syntax tree, and finds out what it is."""

    def __init__(self, columns: Mapping[str, _Operand], place: str) -> None:
        self._columns = columns
        self._place = place

    def write(self, node: Any) -> tuple[str, Kind]:
        """SQL with `{role}` for states, and its kind."""
        if isinstance(node, exp.Column):
            column = self._columns[node.name]
            return column.sql, column.kind
        if isinstance(node, exp.Paren):
            return self.write(node.this)
        for known, writer in _WRITERS.items():
            if type(node) in known:
                given = {name for name, value in node.args.items() if value not in (None, False, [])}
                if given - _PARTS.get(type(node), {"this", "expression", "expressions"}):
                    raise self._wrong(node, f"has more to it than a derived column may; {_MAY}")
                return writer(self, node)
        if isinstance(node, exp.AggFunc):
            raise self._wrong(node, "is an aggregate; declare it as a measure and use its name")
        raise self._wrong(node, f"cannot be in a derived column; {_MAY}")

    def literal(self, node: Any) -> tuple[str, Kind]:
        if node.is_string:
            if "\0" in node.this:
                raise self._wrong(node, "has the character U+0000, which Postgres cannot hold")
            return f'({_text(node.this)} COLLATE "C")', "text"
        if not re.fullmatch(r"\d+(\.\d*)?|\.\d+", node.this) or len(node.this) > _MOST_DIGITS:
            raise self._wrong(node, "is no number here; write its digits, 38 at most")
        return f"cast({node.this} AS numeric)", "number"

    def constant(self, node: Any) -> tuple[str, Kind]:
        if isinstance(node, exp.Null):
            return "NULL", "null"
        return ("TRUE" if node.this else "FALSE"), "boolean"

    def negative(self, node: Any) -> tuple[str, Kind]:
        return f"(- {self._number(node.this)})", "number"

    def arithmetic(self, node: Any) -> tuple[str, Kind]:
        return _ARITHMETIC[type(node)](self._number(node.this), self._number(node.expression)), "number"

    def comparison(self, node: Any) -> tuple[str, Kind]:
        (a, b), _ = self._alike(node, [node.this, node.expression])
        return f"({a} {_COMPARISON[type(node)]} {b})", "boolean"

    def between(self, node: Any) -> tuple[str, Kind]:
        (value, low, high), _ = self._alike(node, [node.this, node.args["low"], node.args["high"]])
        return f"({value} BETWEEN {low} AND {high})", "boolean"

    def contained(self, node: Any) -> tuple[str, Kind]:
        if not node.expressions:
            raise self._wrong(node, "looks into something else than a list; write the values in parentheses")
        (value, *values), _ = self._alike(node, [node.this, *node.expressions])
        return f"({value} IN ({', '.join(values)}))", "boolean"

    def logic(self, node: Any) -> tuple[str, Kind]:
        a, b = self._boolean(node.this), self._boolean(node.expression)
        return f"({a} {_LOGIC[type(node)]} {b})", "boolean"

    def opposite(self, node: Any) -> tuple[str, Kind]:
        return f"(NOT {self._boolean(node.this)})", "boolean"

    def null_test(self, node: Any) -> tuple[str, Kind]:
        if not isinstance(node.expression, exp.Null):
            raise self._wrong(node, "can only be asked of null; compare with =")
        return f"({self.write(node.this)[0]} IS {'NOT ' if node.args.get('negate') else ''}NULL)", "boolean"

    def of_number(self, node: Any) -> tuple[str, Kind]:
        return f"{_OF_NUMBERS[type(node)]}({self._number(node.this)})", "number"

    def rounded(self, node: Any) -> tuple[str, Kind]:
        digits = node.args.get("decimals")
        if digits is not None and not (isinstance(digits, exp.Literal) and re.fullmatch(r"\d{1,2}", digits.this)):
            raise self._wrong(node, "is rounded to an unknown number of places; write it, as in round(x, 2)")
        places = "" if digits is None else f", {digits.this}"
        return f"round({self._number(node.this)}{places})", "number"

    def of_several(self, node: Any) -> tuple[str, Kind]:
        values, kind = self._alike(node, [node.this, *node.expressions])
        return f"{_OF_SEVERAL[type(node)]}({', '.join(values)})", kind

    def null_if(self, node: Any) -> tuple[str, Kind]:
        (a, b), kind = self._alike(node, [node.this, node.expression])
        return f"nullif({a}, {b})", kind

    def case(self, node: Any) -> tuple[str, Kind]:
        conditions = []
        for branch in node.args["ifs"]:
            if node.this is None:
                conditions.append(self._boolean(branch.this))
            else:
                (value, given), _ = self._alike(node, [node.this, branch.this])
                conditions.append(f"({value} = {given})")
        default = node.args.get("default")
        results = [branch.args["true"] for branch in node.args["ifs"]] + ([default] if default is not None else [])
        values, kind = self._alike(node, results)
        whens = " ".join(f"WHEN {c} THEN {v}" for c, v in zip(conditions, values, strict=False))
        rest = f" ELSE {values[-1]}" if default is not None else ""
        return f"(CASE {whens}{rest} END)", kind

    def _alike(self, node: Any, parts: Sequence[Any]) -> tuple[list[str], Kind]:
        """Values of one kind; a null is of any."""
        written = [self.write(part) for part in parts]
        kinds = list(dict.fromkeys(kind for _, kind in written if kind != "null"))
        if len(kinds) > 1:
            raise self._wrong(node, f"puts {_NAMES[kinds[0]]} and {_NAMES[kinds[1]]} together; use values of one kind")
        if not kinds:
            return ["NULL" for _ in written], "null"
        return [_null(kinds[0]) if kind == "null" else sql for sql, kind in written], kinds[0]

    def _number(self, node: Any) -> str:
        return self._of(node, "number")

    def _boolean(self, node: Any) -> str:
        return self._of(node, "boolean")

    def _of(self, node: Any, wanted: Kind) -> str:
        sql, kind = self.write(node)
        if kind not in {wanted, "null"}:
            raise self._wrong(node, f"is {_NAMES[kind]} where {_NAMES[wanted]} is needed")
        return _null(wanted) if kind == "null" else sql

    def _wrong(self, node: Any, why: str) -> DeclarationError:
        return DeclarationError(f'{self._place}: "{node.sql(dialect="postgres")}" {why}')


_MOST_DIGITS = 39  # with a point
# What there is to a node: all else would be left out silently.
_PARTS: dict[Any, set[str]] = {
    exp.Literal: {"this", "is_string"},
    exp.Div: {"this", "expression", "typed", "safe"},
    exp.Between: {"this", "low", "high"},
    exp.Is: {"this", "expression", "negate"},
    exp.Round: {"this", "decimals"},
    exp.Greatest: {"this", "expressions", "ignore_nulls"},
    exp.Least: {"this", "expressions", "ignore_nulls"},
    exp.Case: {"this", "ifs", "default"},
}
_NAMES: dict[Kind, str] = {
    "number": "a number",
    "text": "a text",
    "boolean": "a condition",
    "date": "a date",
    "timestamp": "a time without zone",
    "instant": "a moment",
    "null": "a null",
}
_WRITERS: dict[tuple[Any, ...], Callable[[_Writer, Any], tuple[str, Kind]]] = {
    (exp.Literal,): _Writer.literal,
    (exp.Null, exp.Boolean): _Writer.constant,
    (exp.Neg,): _Writer.negative,
    tuple(_ARITHMETIC): _Writer.arithmetic,
    tuple(_COMPARISON): _Writer.comparison,
    (exp.Between,): _Writer.between,
    (exp.In,): _Writer.contained,
    tuple(_LOGIC): _Writer.logic,
    (exp.Not,): _Writer.opposite,
    (exp.Is,): _Writer.null_test,
    tuple(_OF_NUMBERS): _Writer.of_number,
    (exp.Round,): _Writer.rounded,
    tuple(_OF_SEVERAL): _Writer.of_several,
    (exp.Nullif,): _Writer.null_if,
    (exp.Case,): _Writer.case,
}


def _null(kind: Kind) -> str:
    return f"cast(NULL AS {_COLUMNS[kind][1].partition(' COLLATE')[0]})"


def _text(value: str) -> str:
    """A text of which neither `str.format` nor psycopg takes a part for a place to fill."""
    if not set(value) & set("{}%"):
        return text(value)
    written = "".join(f"\\{ord(c):04X}" if c in "{}%\\" else c for c in value)
    return f"U&{text(written)}"
