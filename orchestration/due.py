"""When a pipeline's tables are reported to Dagster.

Events cost about a kilobyte and 10 ms each, so that a report a minute would fill the storage; a report an hour would
leave the graph behind. Rows that changed are reported every five minutes, and at once when something happened that
people look for: a worker came or went, or the tables came to rest after a large batch. While nothing happens a
heartbeat says that they are still true.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ledger.observed import Place
from orchestration.cursor import PipelineCursor, TableCursor

INTERVAL = 300.0  # seconds between two reports of rows that change all the time
SEEN = timedelta(seconds=60)  # after which an end offset says nothing about now
_SPACING = 15.0  # seconds between any two reports, so that a flapping worker does not flood the log
_MANY = 10_000  # records after which a rest is worth a report


@dataclass(frozen=True)
class Look:
    """What one tick sees of a pipeline. fresh_seconds: the shortest `fresh_within` of its tables. today: since 1970."""

    places: Sequence[Place]
    workers: list[str]
    tables: Sequence[TableCursor]
    fresh_seconds: float
    now: datetime
    today: int

    @property
    def level(self) -> bool:
        """Whether every position stands at the end of its partition, which somebody saw a moment ago."""
        return bool(self.places) and all(
            place.behind == 0 and place.seen_at is not None and self.now - place.seen_at <= SEEN
            for place in self.places
        )

    @property
    def offsets(self) -> int:
        """Sum of all positions: the same at two looks when nothing moved in between."""
        return sum(place.next_offset for place in self.places)

    @property
    def pending(self) -> bool:
        """Whether rows changed that were not reported."""
        return any(table.ready(self.today) for table in self.tables)

    @property
    def large(self) -> bool:
        """Whether they are many, or of a day never reported."""
        new_day = any(
            day and int(day) not in table.reported for table in self.tables for day in table.ready(self.today)
        )
        unreported = sum(place.consumed for place in self.places) - sum(table.consumed for table in self.tables)
        return new_day or unreported >= _MANY


def reason(look: Look, cursor: PipelineCursor, now: float) -> str:
    """Why a report is due now, empty when none is."""
    age = abs(now - cursor.reported_at)  # a clock that was set back must not stop the reports
    if age < _SPACING:
        return ""
    came, went = sorted(set(look.workers) - set(cursor.workers)), sorted(set(cursor.workers) - set(look.workers))
    if came or went:
        return f"started {', '.join(came)}" if came else f"stopped {', '.join(went)}"
    if look.pending and age >= INTERVAL:
        return "rows changed"
    if look.pending and look.offsets == cursor.offsets and look.large:
        return "came to rest"
    if look.level and age >= look.fresh_seconds / 3:
        return "heartbeat"
    return ""
