"""Windows as SQL: where a record's window begins and ends (DuckDB), and which windows the stored rows make (Postgres).

Moments are microseconds since 1970 UTC. Without a zone a window is an integer floor. With one it begins when the clocks
of the zone first show its beginning, and lasts until they first show the next one's; DuckDB knows the zone's rules, and
the worker stores the end, so that Postgres need not know them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from headrace.errors import DeclarationError
from topology.duck import connect, text
from topology.program import StateColumn
from topology.window import DAY, Count, Hopping, Session, TimeWindow, Tumbling, Window

END = StateColumn("window_end", "TIMESTAMP WITH TIME ZONE", "timestamptz", "greatest")  # stored where it is no sum
_MINUTE = 60_000_000
_YEARS = 20  # of the zone's rules that are looked at; they repeat


def columns(pane_micros: int, zone: str | None, prefix: str) -> list[str]:
    """Columns of `routed`: `window`, the start of a record's pane, and where it is no sum, `window_end`."""
    if zone is None:
        return [f"{floor('_event_time', pane_micros)} AS {prefix}window"]
    first = floor(_shown(zone, "_event_time"), pane_micros)
    start, end = _begins(zone, first), _begins(zone, f"{first} + {pane_micros}")
    return [f"{start} AS {prefix}window", f"{end} AS {prefix}window_end"]


def end(window: TimeWindow, prefix: str) -> str:
    """End of a record's pane, or of the session that it would be alone, in terms of `routed`."""
    if isinstance(window, Session):
        return f"event_time + {window.micros}"
    return f"{prefix}window_end" if window.zone else f"{prefix}window + {window.pane_micros}"


def filled_end(window: TimeWindow, prefix: str) -> str:
    """The DuckDB aggregate that fills `END` where the end is stored."""
    if isinstance(window, Session):
        return f"max(make_timestamptz(r.event_time + {window.micros}))"
    return f"max(make_timestamptz(r.{prefix}window_end))"


def meaning(window: Window | None) -> dict[str, Any] | None:
    """What of a window gives other rows when it changes."""
    match window:
        case None:
            return None
        case Hopping():
            return {"hopping": [window.micros, window.every_micros]}
        case Session():
            return {"session": window.micros}
        case Count():
            return {"count": window.records}
    return {"tumbling": window.micros} | ({"zone": window.zone} if window.zone else {})


def first_start(window: TimeWindow, moment: int) -> int:
    """Start of the first window that holds a moment."""
    if isinstance(window, Hopping):
        every = window.every_micros
        return (moment - window.micros) // every * every + every
    if isinstance(window, Session):
        return moment
    found = _duck().execute(
        f"SELECT {columns(window.micros, window.zone, '')[0]} FROM (SELECT {moment} AS _event_time)"
    )
    return int(found.fetchall()[0][0])


def shown(window: TimeWindow) -> tuple[str, str, str]:
    """The windows that the view shows of its stored rows `s`: a join, start and end, in Postgres."""
    if isinstance(window, Hopping):
        size, every, pane = window.micros, window.every_micros, window.pane_micros
        at = "(extract(epoch FROM s.window_start) * 1000000)::bigint"
        last = "s.window_start" if pane == every else f"s.window_start - ({at} - ({floor(at, every)})) * {_MICROSECOND}"
        join = (
            f"\nCROSS JOIN LATERAL generate_series(\n    {last},\n"
            f"    s.window_start - interval '{size - pane} microseconds',\n"
            f"    interval '-{every} microseconds'\n) AS w(start)"
        )
        return join, "w.start", f"w.start + interval '{size} microseconds'"
    if ends_are_stored(window):
        return "", "s.window_start", "max(s.window_end)"
    return "", "s.window_start", f"s.window_start + interval '{window.micros} microseconds'"


def stored_end(window: TimeWindow) -> str:
    """End of the pane that is stored as row `s`, in Postgres."""
    if isinstance(window, Session) or window.zone:
        return "s.window_end"
    return f"s.window_start + interval '{window.pane_micros} microseconds'"


def ends_are_stored(window: TimeWindow) -> bool:
    """Whether the end of a window is no sum of its start and a length, so that it is a state of its own."""
    return isinstance(window, Session) or window.zone is not None


def check_zone(window: Tumbling, since: int, place: str) -> None:
    """Refuse windows that the clocks would show twice, or that would begin in an hour which they skip."""
    for at, before, after in _changes(str(window.zone), since - window.micros):
        if _torn(window.micros, before, after):
            minutes = abs(after - before) // _MINUTE
            raise DeclarationError(
                f"{place}: the clocks of {window.zone} change by {minutes} minutes at {_said(at)}, which tears windows "
                f'of "{window.size}"; use larger ones, or leave zone out'
            )


def _torn(size: int, before: int, after: int) -> bool:
    """Whether a change of the clocks, from showing `before` to showing `after`, leaves no window in one piece."""
    if after < before:
        return (before - 1) // size != after // size
    skipped_whole = before % size == 0 and after % size == 0
    return not skipped_whole and before // size != after // size


_MICROSECOND = "interval '1 microsecond'"


def floor(value: str, size: int) -> str:
    """The multiple of `size` at or before an integer, as SQL."""
    return f"{value} - ({value} % {size} + {size}) % {size}"  # a floor, before 1970 too


def _shown(zone: str, moment: str) -> str:
    """What the clocks show at a moment."""
    return f"epoch_us(timezone({text(zone)}, make_timestamptz({moment})))"


def _begins(zone: str, shown_: str) -> str:
    """The first moment at which the clocks show this.

    DuckDB gives the last one. Where the clocks were set back, the first is found by what they showed a day earlier; it
    is the right one when they really show it then.
    """
    last = f"epoch_us(timezone({text(zone)}, make_timestamp({shown_})))"
    first = f"({shown_} - {_shown(zone, f'{last} - {DAY}')} + {last} - {DAY})"
    return f"{last} - ({last} - {first}) * CAST({_shown(zone, first)} = {shown_} AS BIGINT)"


@cache
def _changes(zone: str, since: int) -> list[tuple[int, int, int]]:
    """When the clocks of a zone change, and what they show just before and after."""
    until = since + _YEARS * 366 * DAY
    before = f"{_shown(zone, f't - {_MINUTE}')} + {_MINUTE}"
    found = _duck().execute(
        f"WITH days AS (SELECT unnest(range({since}, {until}, {DAY})) AS t),\n"
        f"ahead AS (SELECT t, {_shown(zone, 't')} - t AS ahead FROM days),\n"
        "moved AS (SELECT t FROM ahead QUALIFY lead(ahead) OVER (ORDER BY t) <> ahead),\n"
        f"minutes AS (SELECT unnest(range(t, t + {DAY}, {_MINUTE})) + {_MINUTE} AS t FROM moved)\n"
        f"SELECT t, {before} AS before, {_shown(zone, 't')} AS after FROM minutes WHERE before <> after ORDER BY t"
    )
    return [(int(at), int(before), int(after)) for at, before, after in found.fetchall()]


def _said(moment: int) -> str:
    return str(_duck().execute(f"SELECT strftime(make_timestamp({moment}), '%Y-%m-%dT%H:%MZ')").fetchall()[0][0])


@cache
def _duck() -> Any:
    return connect()
