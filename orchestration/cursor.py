"""What the fleet sensor has reported: carried from tick to tick as the sensor's cursor, a JSON text.

Dagster stores the cursor after the events of the tick. A daemon that dies in between reports them once more; none is
lost. Without a cursor, or with one that nobody can read, everything is reported anew.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

Span = tuple[int, int]  # offsets [from, to)


@dataclass
class TableCursor:
    """One build of a table. Days are texts, days since 1970, "" for a table without windows; partitions are texts too.

    since: offset by partition up to which touched days are known. pending: days not reported since they were touched,
    with the offsets that touched them. due: days that the report under way has not named yet. reported: days reported
    at least once. consumed, records: consumed in all when the last report began, and since the one before.
    """

    since: dict[str, int] = field(default_factory=dict)
    pending: dict[str, dict[str, Span]] = field(default_factory=dict)
    due: list[str] = field(default_factory=list)
    reported: list[int] = field(default_factory=list)
    consumed: int = 0
    records: int = 0

    def ready(self, today: int) -> list[str]:
        """Pending days that have begun; one ahead of the clock is no partition yet and waits."""
        return sorted(day for day in self.pending if not day or int(day) <= today)


@dataclass
class PipelineCursor:
    """One pipeline. Times are seconds since 1970.

    reported_at: when the last report began. reason: why it did, while it is under way. workers: those that ran then.
    offsets: where the tables stood at the last look.
    """

    reported_at: float = 0.0
    reason: str = ""
    workers: list[str] = field(default_factory=list)
    offsets: int = -1


@dataclass
class Cursor:
    """Everything. tables: by build. checks: by asset and name, whether it passed and when that was last reported."""

    tables: dict[str, TableCursor] = field(default_factory=dict)
    pipelines: dict[str, PipelineCursor] = field(default_factory=dict)
    checks: dict[str, tuple[bool, float]] = field(default_factory=dict)
    volume_at: float = 0.0

    def dump(self) -> str:
        """As the text Dagster keeps."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def load(cls, text: str | None) -> Cursor:
        """From the kept text; empty for the first tick, and for a text of a person or of another Headrace."""
        try:
            found: dict[str, Any] = json.loads(text or "")
            return cls(
                {build: _table(table) for build, table in found["tables"].items()},
                {name: PipelineCursor(**pipeline) for name, pipeline in found["pipelines"].items()},
                {name: (bool(passed), float(at)) for name, (passed, at) in found["checks"].items()},
                float(found["volume_at"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            return cls()

    def known(self) -> dict[tuple[str, int], int]:
        """Offset by build and partition up to which touched days are known."""
        return {
            (build, int(partition)): offset
            for build, table in self.tables.items()
            for partition, offset in table.since.items()
        }


def _table(found: dict[str, Any]) -> TableCursor:
    pending = {
        day: {partition: (span[0], span[1]) for partition, span in spans.items()}
        for day, spans in found["pending"].items()
    }
    return TableCursor(**{**found, "pending": pending})
