"""A batch: consecutive records of one partition, as columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ledger.lookups import Vector
from schemas.codec import Failure

Offsets = npt.NDArray[np.int64]


def no_offsets() -> Offsets:
    """None at all."""
    return np.empty(0, np.int64)


def moment_of(millis: int) -> datetime | None:
    """A Kafka timestamp, None where it is no date that Postgres and Python can hold."""
    try:
        return datetime.fromtimestamp(millis / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None


@dataclass(frozen=True)
class Envelope:
    """What surrounds a payload: wanted only for dead letters and markers."""

    key: bytes | None
    headers: dict[str, str]


@dataclass(frozen=True)
class Marker:
    """An end-of-input marker; `event_time` in microseconds, None when its header cannot be read."""

    index: int
    event_time: int | None


@dataclass(frozen=True)
class Batch:
    """Records [from_offset, to_offset) of one partition; offsets never delivered count as gaps.

    payloads, offsets and timestamps (Kafka's, milliseconds) have one entry per delivered record, markers included.
    frame: the decoded records with `_i` (index into payloads), `_ts` and `_offset`; failures: those that could not be
    decoded.
    corrected: dead letters that are replayed, in their order but not consecutive: they are never late nor duplicates.
    vector: how far the tables were in which the records have been looked up.
    """

    shard: int
    topic: str
    partition: int
    from_offset: int
    to_offset: int
    leader_epoch: int
    level: bool
    payloads: list[bytes | None]
    offsets: Offsets
    timestamps: Offsets
    envelope: Callable[[int], Envelope]
    markers: tuple[Marker, ...] = ()
    frame: pa.RecordBatch | None = None
    failures: tuple[Failure, ...] = ()
    corrected: bool = False
    vector: Vector | None = None

    @property
    def records(self) -> int:
        """Delivered records, markers included."""
        return len(self.payloads)

    def moment(self, index: int) -> datetime | None:
        """Kafka timestamp of a record, None where it is no date that Postgres and Python can hold."""
        return moment_of(int(self.timestamps[index]))

    def cut(self, start: int, stop: int) -> Batch:
        """The part [start, stop) in offsets."""
        low, high = (int(np.searchsorted(self.offsets, edge)) for edge in (start, stop))
        envelope = self.envelope
        frame = self.frame
        if frame is not None and (low, high) != (0, self.records):
            index = frame.column("_i").to_numpy()
            first, last = (int(np.searchsorted(index, edge)) for edge in (low, high))
            part = frame.slice(first, last - first)
            frame = part.set_column(part.schema.get_field_index("_i"), "_i", pa.array(index[first:last] - low))
        return replace(
            self,
            from_offset=start,
            to_offset=stop,
            level=self.level and stop == self.to_offset,
            payloads=self.payloads[low:high],
            offsets=self.offsets[low:high],
            timestamps=self.timestamps[low:high],
            envelope=lambda i: envelope(i + low),
            markers=tuple(replace(m, index=m.index - low) for m in self.markers if low <= m.index < high),
            frame=frame,
            failures=tuple(Failure(f.index - low, f.reason, f.detail) for f in self.failures if low <= f.index < high),
        )
