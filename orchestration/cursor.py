"""What the fleet sensor has reported: carried from tick to tick as the sensor's cursor, a JSON text.

Dagster stores the cursor after the events of the tick. A daemon that dies in between reports them once more; none is
lost.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

Span = tuple[int, int]  # offsets [from, to)


@dataclass
class TableCursor:
    """One table version. Days are days since 1970; partitions are texts, as JSON keys are.

    since: offset by partition up to which touched days are known. pending: days not reported since they were touched,
    with the offsets that touched them (the day "" stands for a table without windows). reported: days reported at least
    once. consumed: records at the last report.
    """

    since: dict[str, int] = field(default_factory=dict)
    pending: dict[str, dict[str, Span]] = field(default_factory=dict)
    reported: list[int] = field(default_factory=list)
    consumed: int = 0


@dataclass
class PipelineCursor:
    """One pipeline. Times are seconds since 1970.

    reported_at: when the last report began. reason: why one is under way whose days did not all fit into a tick.
    workers: those that ran at the last look. offsets: where the tables stood at the last look.
    """

    reported_at: float = 0.0
    reason: str = ""
    workers: list[str] = field(default_factory=list)
    offsets: int = -1


@dataclass
class Cursor:
    """Everything. checks: by asset and name, whether it passed and when that was last reported."""

    tables: dict[str, TableCursor] = field(default_factory=dict)
    pipelines: dict[str, PipelineCursor] = field(default_factory=dict)
    checks: dict[str, tuple[bool, float]] = field(default_factory=dict)
    volume_at: float = 0.0

    def dump(self) -> str:
        """As the text Dagster keeps."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def load(cls, text: str | None) -> Cursor:
        """From the kept text; None is the first tick of all."""
        if not text:
            return cls()
        found: dict[str, Any] = json.loads(text)
        return cls(
            {name: _table(table) for name, table in found["tables"].items()},
            {name: PipelineCursor(**pipeline) for name, pipeline in found["pipelines"].items()},
            {name: (bool(passed), float(at)) for name, (passed, at) in found["checks"].items()},
            found["volume_at"],
        )

    def known(self) -> dict[tuple[str, int], int]:
        """Offset by table version and partition up to which touched days are known."""
        return {
            (version, int(partition)): offset
            for version, table in self.tables.items()
            for partition, offset in table.since.items()
        }


def _table(found: dict[str, Any]) -> TableCursor:
    pending = {
        day: {partition: (span[0], span[1]) for partition, span in spans.items()}
        for day, spans in found["pending"].items()
    }
    return TableCursor(found["since"], pending, found["reported"], found["consumed"])
