"""What the owner of a partition holds back since its last cut: the rows of the next files, and what became of the rest.

Nothing of it is in the ledger: a worker that dies reads the records again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import date, timedelta

import numpy as np
import pyarrow as pa

from ledger.archive import Cut
from ledger.dead_letters import DeadLetter
from ledger.transaction import Advance
from stream_workers.batch import Batch, Offsets
from stream_workers.committing import letters, move_of
from stream_workers.opening import TableState
from stream_workers.routing import Routed
from topology.archive_compile import DAY, INDEX, OFFSET, PARTITION, TIMESTAMP

_EPOCH = date(1970, 1, 1)
_MARKS = pa.timestamp("ms", "UTC")


@dataclass
class Held:
    """Batches of one archive and partition since `table`, which is as the ledger has it.

    intended: where the cut has to end that an earlier owner began. since: monotonic time of the first record.
    """

    table: TableState
    intended: int | None = None
    since: float = 0.0
    move: Advance | None = None
    bytes: int = 0
    rows: int = 0
    letters: list[DeadLetter] = field(default_factory=list)
    _parts: list[pa.Table] = field(default_factory=list)
    _days: list[np.ndarray[tuple[int], np.dtype[np.int32]]] = field(default_factory=list)
    _refused: list[tuple[int, int]] = field(default_factory=list)
    _control: list[tuple[int, int]] = field(default_factory=list)
    _absent: list[tuple[int, int]] = field(default_factory=list)

    def add(self, batch: Batch, routed: Routed, reached: TableState, now: float) -> Advance:
        """Take a batch; `reached` is the table's state before it. Returns how the batch alone moves the table."""
        move = move_of(batch, reached, routed)
        if not self.move or not self.move.consumed:
            self.since = now
        self.move = move if self.move is None else _merged(self.move, move)
        self.letters += letters(batch, {self.table.version_id: routed})
        at = batch.offsets
        self._refused += spans(at[[refusal.index for refusal in routed.refusals]])
        self._control += spans(at[[marker.index for marker in batch.markers]])
        self._absent += gaps(batch.from_offset, batch.to_offset, at)
        for found in routed.rows:
            self._take(batch, found)
        return move

    @property
    def to_offset(self) -> int:
        """Up to where records are held."""
        return self.move.to_offset if self.move else self.table.next_offset

    @property
    def cut(self) -> Cut:
        """Where the offsets go."""
        return Cut(self.rows, *map(_joined, (self._refused, self._control, self._absent)))

    def files(self) -> Iterator[tuple[date, pa.Table]]:
        """The rows by day, in the order of their offsets."""
        table, days = pa.concat_tables(self._parts), np.concatenate(self._days)
        found, counts = np.unique(days, return_counts=True)
        if len(found) > 1:
            table = table.take(pa.array(np.argsort(days, kind="stable")))
        start = 0
        for day, count in zip(found, counts, strict=True):
            yield _EPOCH + timedelta(days=int(day)), table.slice(start, int(count))
            start += int(count)

    def _take(self, batch: Batch, found: pa.Table) -> None:
        frame = batch.frame
        assert frame is not None  # rows come from it
        index = found.column(INDEX).to_numpy()
        if len(index) < frame.num_rows:
            frame = frame.take(pa.array(np.searchsorted(frame.column("_i").to_numpy(), index)))
        columns = {name: frame.column(name) for name in frame.schema.names if name not in ("_i", "_ts", "_offset")}
        columns[PARTITION] = pa.array(np.full(len(index), batch.partition, np.int32))
        columns[OFFSET] = pa.array(batch.offsets[index])
        columns[TIMESTAMP] = pa.array(batch.timestamps[index]).cast(_MARKS)
        part = pa.table(columns)
        self._parts.append(part)
        self._days.append(found.column(DAY).to_numpy())
        self.bytes += part.nbytes
        self.rows += part.num_rows


def spans(offsets: Offsets) -> list[tuple[int, int]]:
    """Ascending offsets as [low, high)."""
    if not len(offsets):
        return []
    last = np.flatnonzero(np.diff(offsets) > 1)
    lows, highs = offsets[np.r_[0, last + 1]], offsets[np.r_[last, len(offsets) - 1]] + 1
    return list(zip(lows.tolist(), highs.tolist(), strict=True))


def gaps(start: int, stop: int, delivered: Offsets) -> list[tuple[int, int]]:
    """What of [start, stop) was not delivered."""
    edges = np.r_[start - 1, delivered, stop]
    at = np.flatnonzero(np.diff(edges) > 1)
    return list(zip((edges[at] + 1).tolist(), edges[at + 1].tolist(), strict=True))


def _joined(found: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Neighbours as one."""
    joined: list[tuple[int, int]] = []
    for low, high in found:
        if joined and joined[-1][1] == low:
            joined[-1] = joined[-1][0], high
        else:
            joined.append((low, high))
    return joined


def _merged(first: Advance, then: Advance) -> Advance:
    """Two moves as one."""
    counts = ("consumed", "applied", "dead_lettered", "filtered", "control", "late_applied")
    return replace(
        then,
        from_offset=first.from_offset,
        watermark_before=first.watermark_before,
        min_event=min((t for t in (first.min_event, then.min_event) if t is not None), default=None),
        max_event=max((t for t in (first.max_event, then.max_event) if t is not None), default=None),
        **{name: getattr(first, name) + getattr(then, name) for name in counts},
    )
