"""Standard deviation and variance: kept as count, sum and sum of squares, exact, and finished in the view.

Squares of a decimal of up to 18 digits have up to 36, and those of a bigint 38: DuckDB counts them as HUGEINT within a
batch (one that outgrows it is cut in halves), Postgres adds them up as numeric without a limit. So
n * squares - sum * sum is exact, and nothing cancels however large the values are beside their spread.
"""

from __future__ import annotations

from headrace.errors import DeclarationError
from topology.program import Column, StateColumn
from topology.state import FLOATS, SMALL, Kept, State, decimal_of, from_units, minor, total

SPREADS = {"stddev_samp", "stddev_pop", "var_samp", "var_pop"}
_SQUARED = SMALL | {"UINTEGER", "BIGINT"}  # whose squares fit HUGEINT


def spread(name: str, function: str, duck_type: str, *, approx: bool, place: str) -> Kept:
    """How one of `SPREADS` is kept; it is null where there are too few values: none, or one of a sample."""
    sums, _, _ = total(name, duck_type, approx, place, function)
    count = State(StateColumn(f"{name}__count", "BIGINT", "bigint", "add"), "count({x})")
    others = "{count} - 1" if function.endswith("_samp") else "{count}"
    if duck_type in FLOATS:
        squares = _double_squares(name)
        # Divided first: the square of a sum may be too large for a double where that of a mean is not.
        over_n = "greatest({squares} / nullif({count}, 0) - ({sum} / nullif({count}, 0)) ^ 2, 0)"
        variance, shown = f"{over_n} * {{count}} / nullif({others}, 0)", Column(name, "DOUBLE", "double precision")
    else:
        squares, scale = _exact_squares(name, function, duck_type, place)
        exact = f"({{count}} * {{squares}} - {{sum}} * {{sum}}) / nullif({{count}} * ({others}), 0)"
        variance = from_units(exact, 2 * scale)
        shown = Column(name, "DECIMAL(38,18)", "numeric")
    finish = f"sqrt({variance})" if function.startswith("stddev") else variance
    return Kept({"sum": sums.named(f"{name}__sum"), "count": count, "squares": squares}, shown, finish)


def _exact_squares(name: str, function: str, duck_type: str, place: str) -> tuple[State, int]:
    """The sum of the squares of values in their smallest unit, and the number of decimal places of that unit."""
    decimal = decimal_of(duck_type)
    if decimal and minor(decimal):
        unit = f"cast(cast({{x}} AS DECIMAL(38,{decimal[1]})) * {10 ** decimal[1]} AS BIGINT)"
        small, scale = decimal[0] <= 9, decimal[1]
    elif duck_type in _SQUARED:
        unit, small, scale = "{x}", duck_type in SMALL, 0
    else:
        raise DeclarationError(
            f"{place}: the squares of {duck_type} have more digits than can be counted exactly; cast inside it to 18 "
            f"digits at most, as in {function}(cast(... as decimal(18,2)))"
        )
    kind = "BIGINT" if small else "HUGEINT"
    square = f"cast({unit} AS {kind}) * cast({unit} AS {kind})"
    column = StateColumn(f"{name}__squares", "DECIMAL(38,0)", "numeric", "add")
    return State(column, f"cast(sum({square}) AS DECIMAL(38,0))"), scale


def _double_squares(name: str) -> State:
    squares = "sum(cast({x} AS DOUBLE) * cast({x} AS DOUBLE))"
    refused = "error('the sum of squares is too large for a double')"
    finite = f"CASE WHEN NOT isfinite({squares}) THEN {refused} ELSE {squares} END"
    return State(StateColumn(f"{name}__squares", "DOUBLE", "double precision", "add"), finite)
