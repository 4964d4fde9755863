"""Ledger against log: what the tables of a topic counted, compared with what an independent reader finds.

One snapshot of the positions, then one bounded reading for all tables. Imported by runs only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from headrace.clock import SYSTEM_CLOCK, Clock
from headrace.deadline import Deadline
from headrace.errors import HeadraceError, LogTruncated, PartitionsChanged, TopicRecreated
from headrace.settings import Settings
from ledger import counted
from ledger.connection import connect
from ledger.counted import Counted
from orchestration import recount
from orchestration.recount import Delivered

_LINE_EVERY = 10.0  # seconds; each line is an event of about a kilobyte in Dagster's storage
Say = Callable[[str], None]


class NothingToRecount(HeadraceError):
    """No worker has read the topic for this table yet."""


@dataclass(frozen=True)
class Compared:
    """One partition of one table. found: None where nothing is left in the log; control None: not known for a tail."""

    partition: int
    first: int
    next: int
    consumed: int
    control: int | None
    found: Delivered | None
    whole: bool

    @property
    def equal(self) -> bool:
        """Whether log and ledger agree; gaps follow, for they are the span less the delivered records."""
        return (
            self.found is not None
            and self.found.records == self.consumed
            and (self.control is None or self.found.markers == self.control)
        )

    @property
    def gaps(self) -> tuple[int, int | None]:
        """Offsets never delivered: by the ledger, by the log."""
        span = self.next - self.first
        return span - self.consumed, span - self.found.records if self.found else None


@dataclass(frozen=True)
class Finding:
    """The recount of one table. seconds: of the reading, which is shared by the topic's tables."""

    partitions: tuple[Compared, ...]
    seconds: float
    read: int

    @property
    def differing(self) -> tuple[Compared, ...]:
        """Partitions in which log and ledger disagree."""
        return tuple(p for p in self.partitions if p.found is not None and not p.equal)

    @property
    def unread(self) -> tuple[Compared, ...]:
        """Partitions of which nothing could be recounted."""
        return tuple(p for p in self.partitions if p.found is None)


def examine(
    settings: Settings, topic: str, tables: Sequence[str], say: Say, clock: Clock = SYSTEM_CLOCK
) -> dict[str, Finding | HeadraceError]:
    """The recount of each table, or why there is none; `HeadraceError` for what concerns all of them."""
    config = settings.kafka()
    now = recount.topic_id(config, topic)
    if now is None:
        raise HeadraceError(f"topic {topic} does not exist in Kafka; run `headrace provision`, then ingest")
    with closing(connect(settings.need_postgres(), application="headrace recount")) as db:
        before = counted.snapshot(db, topic, tables, {})
        bounds = recount.ends(config, topic)  # after the positions that are held against it: workers go on meanwhile
        start = floors(before, bounds, settings.recount_records)
        positions = counted.snapshot(db, topic, tables, start)
    results: dict[str, Finding | HeadraceError] = {}
    plans: dict[str, list[Compared]] = {}
    for table in tables:
        own = [position for position in positions if position.table == table]
        try:
            check(table, topic, [position for position in before if position.table == table], now, bounds)
            plans[table] = [_plan(position, start.get(position.partition, position.first_offset)) for position in own]
        except HeadraceError as error:
            results[table] = error
    marks = _marks([one for plan in plans.values() for one in plan if one.found is not None])
    began = clock.monotonic()
    total = sum(offsets[-1] - offsets[0] for offsets in marks.values())
    read = recount.between(config, topic, marks, on_read=_teller(say, topic, total, clock)) if marks else {}
    seconds = clock.monotonic() - began
    delivered = sum(part.records for parts in read.values() for part in parts)
    for table, plan in plans.items():
        done = tuple(_fill(one, marks, read) for one in plan)
        results[table] = Finding(done, seconds, delivered)
    return results


def floors(positions: Sequence[Counted], bounds: recount.Bounds, most: int) -> dict[int, int]:
    """Where reading begins, by partition: what the log still has, and no more than `most` offsets in all."""
    spans: dict[int, tuple[int, int]] = {}
    for position in positions:
        if position.partition in bounds:
            low, high = spans.get(position.partition, (position.first_offset, position.next_offset))
            spans[position.partition] = (min(low, position.first_offset), max(high, position.next_offset))
    total = sum(high - low for low, high in spans.values())
    share = min(1.0, most / total) if total else 1.0
    return {p: max(bounds[p][0], high - int((high - low) * share)) for p, (low, high) in spans.items()}


def check(table: str, topic: str, positions: Sequence[Counted], topic_id: str, bounds: recount.Bounds) -> None:
    """Raise when the positions and the log cannot belong together."""
    if not positions:
        raise NothingToRecount(
            f"no worker has read {topic} for {table} yet: there is nothing to recount; look at `headrace status`"
        )
    for position in positions:
        where = f"{topic}[{position.partition}]"
        if position.topic_id != topic_id:
            raise TopicRecreated(
                f"topic {topic} was deleted and created again; the positions of {table} belong to the old one; "
                "run `headrace pipeline rebuild` for its pipeline"
            )
        if position.partition not in bounds:
            raise PartitionsChanged(f"{where} is gone and {table} has a position in it; look at `headrace status`")
        if position.next_offset > bounds[position.partition][1]:
            raise LogTruncated(
                f"{where} ends at offset {bounds[position.partition][1]:,} and {table} stands at "
                f"{position.next_offset:,}; look at `headrace status`"
            )


def _plan(position: Counted, floor: int) -> Compared:
    """What to compare in one partition; `found` is a placeholder until the log is read, None where it is not."""
    place, first, following = position.partition, position.first_offset, position.next_offset
    if floor <= first:
        return Compared(place, first, following, position.consumed, position.control, Delivered(), True)
    tail = position.tail
    if tail is None or tail.from_offset < floor:
        return Compared(place, following, following, 0, None, None, False)
    return Compared(place, tail.from_offset, following, tail.records, None, Delivered(), False)


def _marks(plan: Sequence[Compared]) -> dict[int, list[int]]:
    """Every offset at which a table's range begins or ends, ascending, by partition."""
    found: dict[int, set[int]] = {}
    for one in plan:
        found.setdefault(one.partition, set()).update((one.first, one.next))
    return {partition: sorted(offsets) for partition, offsets in found.items() if len(offsets) > 1}


def _fill(one: Compared, marks: Mapping[int, list[int]], read: Mapping[int, list[Delivered]]) -> Compared:
    if one.found is None or one.first == one.next:
        return one
    offsets = marks[one.partition]
    parts = read[one.partition][offsets.index(one.first) : offsets.index(one.next)]
    total = sum(parts, Delivered())
    return Compared(one.partition, one.first, one.next, one.consumed, one.control, total, one.whole)


def _teller(say: Say, topic: str, total: int, clock: Clock) -> recount.OnRead:
    began, next_line = clock.monotonic(), Deadline.after(_LINE_EVERY, clock)

    def tell(read: int) -> None:
        nonlocal next_line
        if next_line.passed():
            next_line = Deadline.after(_LINE_EVERY, clock)
            rate = read / max(0.001, clock.monotonic() - began)
            say(f"{topic}: {read:,} records of at most {total:,} recounted, {rate:,.0f} records/s")

    return tell
