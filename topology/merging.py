"""How partial values become one, in Postgres: two rows of one state, and the rows of several shards in a view."""

from __future__ import annotations

from topology.duck import quoted
from topology.program import StateColumn

_TWO = {
    "add": "{a} + {b}",
    "least": "least({a}, {b})",
    "greatest": "greatest({a}, {b})",
}
_MANY = {"add": "sum({s})", "least": "min({s})", "greatest": "max({s})"}


def merged(state: StateColumn, older: str, newer: str) -> str:
    """The value of two rows, by their aliases; a null on either side is "no value yet" and never wipes the other."""
    a, b = f"{older}.{quoted(state.name)}", f"{newer}.{quoted(state.name)}"
    return f"coalesce({_TWO[state.merge].format(a=a, b=b)}, {a}, {b})"


def combined(state: StateColumn, rows: str) -> str:
    """The value of all rows of a group, an aggregate over the alias `rows`."""
    return _MANY[state.merge].format(s=f"{rows}.{quoted(state.name)}")
