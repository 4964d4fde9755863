"""End-of-input markers: control records that tell every partition how far the input has come in event time."""

from __future__ import annotations

from headrace.transactions import Header
from schemas.markers import END_OF_INPUT, EVENT_TIME_HEADER, MARKER_HEADER


def end_of_input(event_time: int, *, name: str) -> list[Header]:
    """Headers of the marker (its value is null): the input `name` has ended, nothing in it lies after `event_time`.

    event_time: microseconds since 1970-01-01 UTC, the largest valid one of the input.
    """
    return [(MARKER_HEADER, END_OF_INPUT), (EVENT_TIME_HEADER, b"%d" % event_time), ("file", name.encode())]
