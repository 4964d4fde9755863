"""One tick of the fleet: from a snapshot of the ledger to the events of this tick and the cursor after it.

A tick has room for 20 events: first checks whose outcome changed, then per pipeline its topic and, after it, its
tables, then outcomes that were not told for an hour.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta

from dagster import AssetCheckEvaluation, AssetMaterialization, AssetObservation

from ledger.observed import Observed, Place
from orchestration import due, judge, materializations, tables
from orchestration.cursor import Cursor, PipelineCursor, TableCursor
from orchestration.materializations import Report
from orchestration.verdict import Verdict
from topology.duration import micros
from topology.program import PipelineProgram, TableProgram

Event = AssetMaterialization | AssetObservation | AssetCheckEvaluation

EVENTS = 20  # most in one tick: each costs 8 to 12 ms in the daemon
TELL_AGAIN = 3600.0  # seconds after which an unchanged outcome is told once more
_EPOCH = date(1970, 1, 1)


class Tick:
    """Plans one tick; `events` and `cursor` are its result."""

    def __init__(self, pipelines: Mapping[str, PipelineProgram], seen: Observed, cursor: Cursor, now: datetime) -> None:
        self.events: list[Event] = []
        self.cursor = cursor
        self._pipelines, self._seen, self._now = pipelines, seen, now
        self._at = now.timestamp()
        self._today = (now.astimezone(UTC).date() - _EPOCH).days
        firsts = {table.name: tables.first_day(table) for program in pipelines.values() for table in program.tables}
        self._first = {name: (first - _EPOCH).days for name, first in firsts.items() if first is not None}

    def run(self) -> None:
        """Fill `events` and move the cursor by exactly those."""
        self._absorb()
        if self._seen.volumes is not None:
            self.cursor.volume_at = self._at
        every = [verdict for program in self._pipelines.values() for verdict in self._judge(program)]
        self._tell(v for v in every if self._told(v)[0] is not v.passed)
        for name in sorted(self._pipelines, key=lambda name: self._pipeline(name).reported_at):
            self._report(self._pipelines[name])
        self._tell(v for v in every if abs(self._at - self._told(v)[1]) >= TELL_AGAIN)

    # -- what was touched

    def _absorb(self) -> None:
        builds = {place.table_version: place for place in self._seen.places}
        live = {place.build for place in self._seen.places}
        self.cursor.tables = {build: table for build, table in self.cursor.tables.items() if build in live}
        for touched in self._seen.touched:
            place = builds[touched.table_version]
            if touched.day is not None and touched.day < self._first.get(place.table, touched.day):
                continue  # of a version with an earlier `not_before`, which waits for its rebuild
            pending = self._table(place).pending
            spans = pending.setdefault("" if touched.day is None else str(touched.day), {})
            low, high = spans.get(str(touched.partition), (touched.from_offset, touched.to_offset))
            spans[str(touched.partition)] = (min(low, touched.from_offset), max(high, touched.to_offset))
        for place in self._seen.places:
            self._table(place).since[str(place.partition)] = place.next_offset

    # -- checks

    def _judge(self, program: PipelineProgram) -> list[Verdict]:
        found = judge.pipeline(program, self._seen, self._now)
        for table in program.tables:
            found += judge.table(table, self._seen, self._now)
        return found

    def _told(self, verdict: Verdict) -> tuple[bool | None, float]:
        return self.cursor.checks.get(verdict.key.to_user_string(), (None, 0.0))

    def _tell(self, verdicts: Iterable[Verdict]) -> None:
        for verdict in list(verdicts)[: EVENTS - len(self.events)]:
            self.events.append(verdict.evaluation())
            self.cursor.checks[verdict.key.to_user_string()] = (verdict.passed, self._at)

    # -- reports

    def _report(self, program: PipelineProgram) -> None:
        """Begin a report when one is due, and go on with the one under way as far as the tick has room."""
        pipeline = self._pipeline(program.name)
        places = self._seen.pipeline(program.name)
        workers = [w.worker for w in self._seen.workers if w.pipeline == program.name and w.state == "running"]
        own = [self._table(place) for place in {place.build: place for place in places}.values()]
        fresh = min((micros(table.table.fresh_within) for table in program.tables), default=0) / 1e6
        look = due.Look(places, workers, own, fresh, self._now, self._today)
        why = "" if pipeline.reason else due.reason(look, pipeline, self._at)
        if why and places and len(self.events) < EVENTS:
            pipeline.reason, pipeline.reported_at, pipeline.workers = why, self._at, workers
            if not program.apart:  # what it makes has reports of its own
                self.events.append(materializations.topic(program, self._about(places, why)))
            for table in program.tables:
                self._begin(table)
        if pipeline.reason:
            done = [self._go_on(table, pipeline.reason) for table in program.tables]
            pipeline.reason = "" if all(done) else pipeline.reason
        pipeline.offsets = look.offsets

    def _begin(self, program: TableProgram) -> None:
        """What is due in the report that begins now: what is pending, or what a heartbeat names."""
        places = self._seen.table(program.name)
        if places:
            table = self._table(places[0])
            table.due = table.ready(self._today) or self._newest(program, table)
            consumed = sum(place.consumed for place in places)
            table.records, table.consumed = consumed - table.consumed, consumed

    def _go_on(self, program: TableProgram, why: str) -> bool:
        """Report what is due of a table, as far as the tick has room; True when nothing is left."""
        places = self._seen.table(program.name)
        if not places:
            return True
        table = self._table(places[0])
        about = self._about(places, why, table.records)
        while table.due and len(self.events) < EVENTS:
            day = table.due.pop(0)
            partition = _key(day) if program.windowed else None
            self.events.append(materializations.table(program, partition, table.pending.pop(day, {}), about))
            if day and int(day) not in table.reported:
                table.reported.append(int(day))
        return not table.due

    def _newest(self, program: TableProgram, table: TableCursor) -> list[str]:
        """What a heartbeat names: the newest day; the table itself where it has no days; nothing without rows."""
        if program.windowed:
            return [str(max(table.reported))] if table.reported else []
        return [""] if table.consumed else []

    def _about(self, places: list[Place], why: str, records: int = 0) -> Report:
        pipeline = places[0].pipeline
        return Report(
            reason=why,
            now=self._now,
            places=places,
            records=records,
            switch=judge.switch(pipeline, self._seen, self._now),
            records_per_s=sum(w.records_per_s for w in self._seen.workers if w.pipeline == pipeline),
        )

    def _table(self, place: Place) -> TableCursor:
        return self.cursor.tables.setdefault(place.build, TableCursor())

    def _pipeline(self, name: str) -> PipelineCursor:
        return self.cursor.pipelines.setdefault(name, PipelineCursor())


def _key(day: str) -> str:
    return (_EPOCH + timedelta(days=int(day))).isoformat()
