"""From measures to state columns: what is summed up, how two partial values merge, how the view finishes them.

Money stays exact and cheap: a decimal of up to 18 digits is kept as an integer number of its smallest unit. Integers of
up to 32 bits are summed as bigint, wider ones and wider decimals as numeric. A sum that outgrows its column raises.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from headrace.errors import DeclarationError
from topology.program import Column, Merge, StateColumn

_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")
SMALL = {"TINYINT", "SMALLINT", "INTEGER", "UTINYINT", "USMALLINT"}
WIDE = {"UINTEGER", "BIGINT", "UBIGINT", "HUGEINT", "UHUGEINT"}
FLOATS = {"FLOAT", "DOUBLE"}

# Types that Postgres holds as they are: group keys, and the values of min and max. Text is compared by bytes in both.
PLAIN = {
    "VARCHAR": 'text COLLATE "C"',
    "TINYINT": "smallint",
    "SMALLINT": "smallint",
    "INTEGER": "integer",
    "BIGINT": "bigint",
    "DATE": "date",
    "TIMESTAMP": "timestamp",
    "TIMESTAMP WITH TIME ZONE": "timestamptz",
}


@dataclass(frozen=True)
class State:
    """A state column with the DuckDB aggregate that fills it over `{x}`, the row expression's column."""

    column: StateColumn
    aggregate: str

    def named(self, name: str) -> State:
        """The same state under another name."""
        return replace(self, column=replace(self.column, name=name))


@dataclass(frozen=True)
class Kept:
    """A measure as kept: its states by role (`sum`, `count`, `squares`, `min`, ...), and its column in the view.

    finish: SQL in Postgres over the states merged across shards, each written as `{role}`.
    """

    states: dict[str, State]
    view: Column
    finish: str


def decimal_of(duck_type: str) -> tuple[int, int] | None:
    """Precision and scale of a decimal type, None for another type."""
    match = _DECIMAL.fullmatch(duck_type)
    return (int(match[1]), int(match[2])) if match else None


def minor(decimal: tuple[int, int]) -> bool:
    """Whether it is kept as an integer number of its smallest unit."""
    return decimal[0] <= 18


def from_units(value: str, scale: int) -> str:
    """A number of smallest units as a numeric with its decimal places; exact."""
    return f"({value} * 0.{'1'.zfill(scale)})" if scale else value


def total(name: str, duck_type: str, approx: bool, place: str, function: str) -> tuple[State, Column, str]:
    """The state of a sum over a `duck_type`, its column in the view and its finish over `{sum}`."""
    decimal = decimal_of(duck_type)
    if decimal and minor(decimal):
        state = State(StateColumn(name, "BIGINT", "bigint", "add"), f"cast(sum({{x}}) * {10 ** decimal[1]} AS BIGINT)")
        pg_type = f"numeric(38,{decimal[1]})"
        return (
            state,
            Column(name, f"DECIMAL(38,{decimal[1]})", pg_type),
            f"cast({from_units('{sum}', decimal[1])} AS {pg_type})",
        )
    if decimal:
        kind = f"DECIMAL(38,{decimal[1]})"
        state = State(StateColumn(name, kind, "numeric", "add"), "sum({x})")
        return state, Column(name, kind, f"numeric(38,{decimal[1]})"), f"cast({{sum}} AS numeric(38,{decimal[1]}))"
    if duck_type in SMALL:
        state = State(StateColumn(name, "BIGINT", "bigint", "add"), "cast(sum({x}) AS BIGINT)")
        return state, Column(name, "BIGINT", "bigint"), "cast({sum} AS bigint)"
    if duck_type in WIDE:
        state = State(StateColumn(name, "DECIMAL(38,0)", "numeric", "add"), "cast(sum({x}) AS DECIMAL(38,0))")
        return state, Column(name, "DECIMAL(38,0)", "numeric(38,0)"), "cast({sum} AS numeric(38,0))"
    if duck_type in FLOATS:
        if not approx:
            raise DeclarationError(
                f"{place}: {function} of {duck_type} depends on the order of the records; cast inside it, as in "
                f"{function}(cast(... as decimal(18,2))), or declare approx=True"
            )
        state = State(StateColumn(name, "DOUBLE", "double precision", "add"), "sum(cast({x} AS DOUBLE))")
        return state, Column(name, "DOUBLE", "double precision"), "{sum}"
    raise DeclarationError(
        f"{place}: {function} needs a number and this is {duck_type}; cast inside it, as in "
        f"{function}(cast(... as decimal(18,2)))"
    )


@dataclass(frozen=True)
class Value:
    """How one value of a type is stored: written in DuckDB over `{v}`, read in Postgres over `{s}` as `view_type`."""

    duck_type: str
    pg_type: str
    write: str
    read: str
    view_type: tuple[str, str]


def value(duck_type: str, function: str, place: str) -> Value:
    """How a value that a measure takes as it is is stored; `DeclarationError` for a type that cannot be."""
    decimal = decimal_of(duck_type)
    if decimal and minor(decimal):
        units = f"cast(cast({{v}} AS DECIMAL(38,{decimal[1]})) * {10 ** decimal[1]} AS BIGINT)"
        pg_type = f"numeric({decimal[0]},{decimal[1]})"
        read = f"cast({from_units('{s}', decimal[1])} AS {pg_type})"
        return Value("BIGINT", "bigint", units, read, (duck_type, pg_type))
    if decimal:
        kind, pg_type, write = duck_type, f"numeric({decimal[0]},{decimal[1]})", "{v}"
    elif duck_type in WIDE - {"BIGINT"} or duck_type in {"UTINYINT", "USMALLINT"}:
        kind, pg_type, write = "DECIMAL(38,0)", "numeric(38,0)", "cast({v} AS DECIMAL(38,0))"
    elif duck_type in FLOATS:
        kind, pg_type, write = "DOUBLE", "double precision", "cast({v} AS DOUBLE)"
    elif duck_type in PLAIN:
        kind, pg_type, write = duck_type, PLAIN[duck_type], "{v}"
    else:
        known = ", ".join(sorted([*PLAIN, *FLOATS, "DECIMAL"]))
        raise DeclarationError(f"{place}: {function} of {duck_type} is not supported; cast it to one of {known}")
    return Value(kind, pg_type, write, "{s}", (kind, pg_type))


def extreme(name: str, function: str, duck_type: str, place: str) -> Kept:
    """How a least or greatest value is kept."""
    merge: Merge = "least" if function == "min" else "greatest"
    of = value(duck_type, function, place)
    state = State(StateColumn(name, of.duck_type, of.pg_type, merge), of.write.format(v=f"{function}({{x}})"))
    return Kept({function: state}, Column(name, *of.view_type), of.read.format(s=f"{{{function}}}"))
