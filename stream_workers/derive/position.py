"""What Kafka holds of a derived topic's partition: how far it was made, and what became of the records.

It is the offset of a group of the topic's own, committed with the records, and its metadata: numbers and ids of fixed
size only, well below the 4,095 bytes that Kafka takes. The ledger's row is a mirror of it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from headrace.errors import OffsetError
from stream_workers.batch import Batch
from stream_workers.routing import Routed


def group_of(topic: str) -> str:
    """The group whose offsets say how far a derived topic was made."""
    return f"headrace.derived.{topic}"


@dataclass(frozen=True)
class Made:
    """Counts of all records so far, [first_offset, next_offset) of one partition of the source. Times in microseconds.

    version, source_id, output_id: of the declaration and of the two topics that this is about. marker: largest event
    time of an end-of-input marker, forwarded: of those passed on; None for none. correction_seq: last correction that
    is decided; decided_from: the last one before those of the same transaction, of which `refused` has a bit for each.
    """

    version: str
    source_id: str
    output_id: str
    first_offset: int
    next_offset: int
    consumed: int = 0
    applied: int = 0
    filtered: int = 0
    dead_lettered: int = 0
    control: int = 0
    gaps: int = 0
    watermark: int | None = None
    marker: int | None = None
    forwarded: int | None = None
    correction_seq: int = 0
    decided_from: int = 0
    refused: int = 0

    def after(self, batch: Batch, routed: Routed) -> Made:
        """As it is when the batch is in."""
        marked = _largest(self.marker, *(marker.event_time for marker in batch.markers))
        return replace(
            self,
            next_offset=batch.to_offset,
            consumed=self.consumed + batch.records,
            applied=self.applied + routed.applied,
            filtered=self.filtered + routed.filtered,
            dead_lettered=self.dead_lettered + len(routed.refusals),
            control=self.control + routed.control,
            gaps=self.gaps + batch.to_offset - batch.from_offset - batch.records,
            watermark=_largest(self.watermark, routed.watermark),
            marker=marked,
        )

    @property
    def counts(self) -> tuple[int, ...]:
        """consumed, applied, filtered, dead_lettered, control, gaps."""
        return self.consumed, self.applied, self.filtered, self.dead_lettered, self.control, self.gaps

    def dump(self) -> str:
        """As metadata of the offset."""
        kept = {name: value for name, value in asdict(self).items() if value is not None and name != "next_offset"}
        return json.dumps(kept, separators=(",", ":"))


def load(offset: int, metadata: str, where: str) -> Made:
    """From a group's offset; `OffsetError` when nobody of ours wrote it."""
    try:
        return Made(next_offset=offset, **json.loads(metadata))
    except (ValueError, TypeError) as error:
        raise OffsetError(
            f"{where}: the group's offset {offset} was set by other hands, its metadata is {metadata[:40]!r};"
            " nothing was produced; bring the offset back, or give the Derived another name"
        ) from error


def smallest_marker(found: Sequence[Made | None]) -> int | None:
    """Up to which event time every partition of the source is complete; None while one has no marker."""
    marked = [made.marker for made in found if made is not None and made.marker is not None]
    return min(marked) if marked and len(marked) == len(found) else None


def _largest(*times: int | None) -> int | None:
    return max((time for time in times if time is not None), default=None)
