"""How partial values become one, in Postgres: two rows of one state, and the rows of several shards in a view."""

from __future__ import annotations

from topology.duck import quoted
from topology.program import StateColumn

_TWO = {"add": "{a} + {b}", "least": "least({a}, {b})", "greatest": "greatest({a}, {b})"}
_MANY = {"add": "sum({s})", "least": "min({s})", "greatest": "max({s})"}


def merged(state: StateColumn, older: str, newer: str) -> str:
    """The value of two rows of one shard, by their aliases.

    A null on either side is "no value yet" and never wipes the other.
    """
    a, b = f"{older}.{quoted(state.name)}", f"{newer}.{quoted(state.name)}"
    if not state.order:
        return f"coalesce({_TWO[state.merge].format(a=a, b=b)}, {a}, {b})"
    old, new = (f"({', '.join(f'{row}.{quoted(name)}' for name in state.order)})" for row in (older, newer))
    sooner = f"{new} < {old}" if state.merge == "first" else f"{new} > {old}"
    return f"CASE WHEN {sooner} OR {older}.{quoted(state.order[0])} IS NULL THEN {b} ELSE {a} END"


def combined(state: StateColumn, rows: str) -> str:
    """The value of all rows of a group, an aggregate over the alias `rows`, which has the rows' `shard` too."""
    column = f"{rows}.{quoted(state.name)}"
    if not state.order:
        return _MANY[state.merge].format(s=column)
    time, offset = (f"{rows}.{quoted(name)}" for name in state.order)
    way = "ASC" if state.merge == "first" else "DESC"
    by = f"{time} {way}, {rows}.shard {way}, {offset} {way}"
    return f"(array_agg({column} ORDER BY {by}) FILTER (WHERE {time} IS NOT NULL))[1]"
