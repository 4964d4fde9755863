"""How fast a number in the ledger grows to its end, seen from outside the processes that make it grow."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.process import Process
from ledger import Connection

_EVERY = 0.05
_STALLED = 60.0


@dataclass(frozen=True)
class Mark:
    """A moment at which the number had grown: monotonic seconds, the number, CPU seconds of the processes."""

    at: float
    done: int
    cpu_s: float


@dataclass(frozen=True)
class Growth:
    """The first and the last change, and when the processes were started."""

    started: float
    first: Mark
    last: Mark

    @property
    def steady_s(self) -> float:
        """Seconds from the first change to the last; from the start, when there was only one."""
        return self.last.at - (self.first.at if self.last.done > self.first.done else self.started)

    @property
    def steady_records(self) -> int:
        """What was done in `steady_s`."""
        return self.last.done - (self.first.done if self.last.done > self.first.done else 0)

    @property
    def steady_cpu_s(self) -> float:
        """CPU seconds used in `steady_s`."""
        return self.last.cpu_s - (self.first.cpu_s if self.last.done > self.first.done else 0.0)


def positions(topic: str) -> Callable[[Connection], int]:
    """Records of a topic that are done, by the ledger's positions."""

    def done(db: Connection) -> int:
        query = "select coalesce(sum(next_offset - first_offset), 0)::bigint from ledger.positions where topic = %s"
        return int((db.execute(query, (topic,)).fetchone() or (0,))[0])

    return done


def rows(topic: str) -> Callable[[Connection], int]:
    """Rows of files that are in a topic, by the ledger."""

    def done(db: Connection) -> int:
        query = "select coalesce(sum(position), 0)::bigint from ledger.files where topic = %s"
        return int((db.execute(query, (topic,)).fetchone() or (0,))[0])

    return done


def watch(
    db: Connection, done: Callable[[Connection], int], end: int, started: float, processes: Sequence[Process]
) -> Growth:
    """Look until `end` is reached; `ServiceFailed` when a process ends before, or nothing moves for a minute."""
    first = last = None
    moved = time.monotonic()
    while last is None or last.done < end:
        gone = [process for process in processes if process.ended()]
        now_done, now = done(db), time.monotonic()
        if now_done > (last.done if last else 0):
            moved, last = now, Mark(now, now_done, sum(process.cpu_s() for process in processes))
            first = first or last
            continue
        if gone:
            raise gone[0].failed(f"ended at {now_done:,} of {end:,} records")
        if now - moved > _STALLED:
            raise processes[0].failed(f"stood still for {_STALLED:.0f} s at {now_done:,} of {end:,} records")
        time.sleep(_EVERY)
    assert first is not None
    return Growth(started, first, last)
