"""A shard that a worker owns, and who reads it: one source for all tables that are level, one more for each that lags.

A table added to a running worker begins at the first kept record while the others stand far ahead (engine rule B11). It
is read for alone, in turn with the others, which go on meanwhile. Where it reaches them it joins: its source is closed,
and one decode serves all again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stream_workers.opening import ShardState
from stream_workers.source import Source


@dataclass
class Owned:
    """A shard that this worker reads. readers: by source the tables (version ids) it reads for, all at one offset."""

    state: ShardState
    topic_id: str
    readers: dict[Source, list[str]]
    waiting_since: float | None = None

    @property
    def front(self) -> Source:
        """The source that is furthest ahead."""
        return max(self.readers, key=self.at)

    def at(self, source: Source) -> int:
        """Where the tables of a source stand."""
        return self.state.tables[self.readers[source][0]].next_offset

    def join(self, source: Source) -> bool:
        """Where a source has reached another, its tables are that one's from now on; whether it has."""
        for other in self.readers:
            if other is not source and self.at(other) == self.at(source):
                self.readers[other] = sorted([*self.readers[other], *self.readers.pop(source)])
                return True
        return False


def readers(state: ShardState, source: Callable[[int, int], Source]) -> dict[Source, list[str]]:
    """One source for each offset at which tables stand, made of offset and leader epoch."""
    found: dict[int, list[str]] = {}
    for version, table in sorted(state.tables.items()):
        found.setdefault(table.next_offset, []).append(version)
    return {
        source(offset, min(state.tables[version].leader_epoch for version in versions)): versions
        for offset, versions in found.items()
    }
