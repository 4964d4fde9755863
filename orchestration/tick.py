"""One tick of the fleet: from a snapshot of the ledger to the events of this tick and the cursor after it.

A tick has room for 20 events: first checks whose outcome changed, then per pipeline its topic and, after it, its
tables, then outcomes that were not told for an hour.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta

from dagster import AssetCheckEvaluation, AssetMaterialization, AssetObservation

from ledger.observed import Observed, Place
from orchestration import due, judge, materializations
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

    def run(self) -> None:
        """Fill `events` and move the cursor by exactly those."""
        self._absorb()
        if self._seen.volumes is not None:
            self.cursor.volume_at = self._at
        every = [verdict for program in self._pipelines.values() for verdict in self._judge(program)]
        self._tell(v for v in every if self._told(v)[0] is not v.passed)
        for name in sorted(self._pipelines, key=lambda name: self._pipeline(name).reported_at):
            self._report(self._pipelines[name])
        self._tell(v for v in every if self._at - self._told(v)[1] >= TELL_AGAIN)

    # -- what was touched

    def _absorb(self) -> None:
        live = {place.table_version for place in self._seen.places}
        self.cursor.tables = {version: table for version, table in self.cursor.tables.items() if version in live}
        for touched in self._seen.touched:
            table = self._table(touched.table_version)
            spans = table.pending.setdefault("" if touched.day is None else str(touched.day), {})
            low, high = spans.get(str(touched.partition), (touched.from_offset, touched.to_offset))
            spans[str(touched.partition)] = (min(low, touched.from_offset), max(high, touched.to_offset))
        for place in self._seen.places:
            self._table(place.table_version).since[str(place.partition)] = place.next_offset

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
        pipeline = self._pipeline(program.name)
        places = self._seen.pipeline(program.name)
        workers = [w.worker for w in self._seen.workers if w.pipeline == program.name and w.state == "running"]
        tables = [self._table(version) for version in sorted({place.table_version for place in places})]
        fresh = min((micros(table.table.fresh_within) for table in program.tables), default=0) / 1e6
        look = due.Look(places, workers, tables, fresh, self._now)
        why = due.reason(look, pipeline, self._at)
        if why and places and len(self.events) < EVENTS:
            if not pipeline.reason:
                pipeline.reported_at, pipeline.workers = self._at, workers
                if not program.derives:  # its topics have reports of their own
                    self.events.append(materializations.topic(program, self._about(places, why)))
            done = [self._report_table(table, why) for table in program.tables]
            pipeline.reason = "" if all(done) else why
        pipeline.offsets = look.offsets

    def _report_table(self, program: TableProgram, why: str) -> bool:
        """Report what is pending of a table, as far as the tick has room; True when nothing is left."""
        places = self._seen.table(program.name)
        if not places:
            return True
        table = self._table(places[0].table_version)
        ready = sorted(day for day in table.pending if self._exists(program, day))
        if not ready:
            ready = self._newest(program, table)
        about = self._about(places, why, sum(place.consumed for place in places) - table.consumed)
        room = EVENTS - len(self.events)
        for day in ready[:room]:
            partition = _key(day) if program.windowed else None
            spans = table.pending.pop(day, {})
            self.events.append(materializations.table(program, partition, spans, about))
            if day and int(day) not in table.reported:
                table.reported.append(int(day))
        if len(ready) > room:
            return False
        table.consumed = sum(place.consumed for place in places)
        return True

    def _newest(self, program: TableProgram, table: TableCursor) -> list[str]:
        """What a heartbeat names: the newest day; the table itself where it has no days; nothing without rows."""
        if program.windowed:
            return [str(max(table.reported))] if table.reported else []
        return [""] if table.consumed else []

    def _exists(self, program: TableProgram, day: str) -> bool:
        """Whether the day is a partition yet: one ahead of the clock stays pending until it begins."""
        return not program.windowed or _EPOCH + timedelta(days=int(day)) <= self._now.astimezone(UTC).date()

    def _about(self, places: list[Place], why: str, consumed: int = 0) -> Report:
        pipeline = places[0].pipeline
        return Report(
            reason=why,
            now=self._now,
            places=places,
            consumed=consumed,
            switch=judge.switch(pipeline, self._seen, self._now),
            records_per_s=sum(w.records_per_s for w in self._seen.workers if w.pipeline == pipeline),
        )

    def _table(self, version: str) -> TableCursor:
        return self.cursor.tables.setdefault(version, TableCursor())

    def _pipeline(self, name: str) -> PipelineCursor:
        return self.cursor.pipelines.setdefault(name, PipelineCursor())


def _key(day: str) -> str:
    return (_EPOCH + timedelta(days=int(day))).isoformat()
