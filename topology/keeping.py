"""Which state columns a measure is kept in."""

from __future__ import annotations

from topology.distinct import FUNCTION, distinct
from topology.ends import ENDS, end
from topology.expression import Measure
from topology.program import Column, StateColumn
from topology.spread import SPREADS, spread
from topology.state import FLOATS, Kept, State, decimal_of, extreme, from_units, minor, total


def keep(name: str, measure: Measure, duck_type: str, *, approx: bool, place: str) -> Kept:
    """How a measure over an expression of `duck_type` is kept; raises `DeclarationError` for a type it cannot have."""
    if measure.function == "count":
        argument = "*" if measure.over is None else "{x}"
        count = State(StateColumn(name, "BIGINT", "bigint", "add"), f"count({argument})")
        return Kept({"count": count}, Column(name, "BIGINT", "bigint"), "cast({count} AS bigint)")
    if measure.function == FUNCTION:
        return distinct(name, duck_type, place)
    if measure.function in {"min", "max"}:
        return extreme(name, measure.function, duck_type, place)
    if measure.function in ENDS:
        return end(name, measure.function, duck_type, place)
    if measure.function in SPREADS:
        return spread(name, measure.function, duck_type, approx=approx, place=place)
    sum_state, view, finish = total(name, duck_type, approx, place, measure.function)
    if measure.function == "sum":
        return Kept({"sum": sum_state}, view, finish)
    return _average(name, sum_state, duck_type)


def _average(name: str, sum_state: State, duck_type: str) -> Kept:
    count = State(StateColumn(f"{name}__count", "BIGINT", "bigint", "add"), "count({x})")
    if duck_type in FLOATS:
        average, shown = "{sum} / nullif({count}, 0)", Column(name, "DOUBLE", "double precision")
    else:
        scaled = decimal_of(duck_type)
        units = from_units("{sum}", scaled[1]) if scaled and minor(scaled) else "{sum}"
        average, shown = f"{units} / nullif({{count}}, 0)", Column(name, "DECIMAL(38,18)", "numeric")
    return Kept({"sum": sum_state.named(f"{name}__sum"), "count": count}, shown, average)
