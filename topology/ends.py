"""First and last value by event time: kept with the event time and offset it came with.

Equal event times are told apart by partition, then offset. A row of the state belongs to one shard, and that is the
partition: two rows of one shard compare (event time, offset), the view compares (event time, shard, offset). Nulls are
left out, as by min and max.
"""

from __future__ import annotations

from topology.program import Column, Merge, StateColumn
from topology.state import Kept, State, value

ENDS: dict[str, Merge] = {"first": "first", "last": "last"}

# Event time and offset as one number: DuckDB compares it far faster than a pair.
_MOMENT = f"(cast(r.event_time AS HUGEINT) * {2**63} + f._offset)"


def end(name: str, function: str, duck_type: str, place: str) -> Kept:
    """How a first or last value is kept."""
    of = value(duck_type, function, place)
    extreme = "min" if function == "first" else "max"
    order = (f"{name}__time", f"{name}__offset")
    aggregates = {
        function: (name, of.duck_type, of.pg_type, of.write.format(v=f"arg_{extreme}({{x}}, {_MOMENT})")),
        "time": (order[0], "BIGINT", "bigint", f"{extreme}(r.event_time) FILTER (WHERE {{x}} IS NOT NULL)"),
        "offset": (
            order[1],
            "BIGINT",
            "bigint",
            f"arg_{extreme}(f._offset, {_MOMENT}) FILTER (WHERE {{x}} IS NOT NULL)",
        ),
    }
    states = {
        f"{function} {role}": State(StateColumn(column, duck, pg, ENDS[function], order), aggregate)
        for role, (column, duck, pg, aggregate) in aggregates.items()
    }
    return Kept(states, Column(name, *of.view_type), of.read.format(s=f"{{{function} {function}}}"))
