"""Operators without Kafka: a log in memory, cut into batches at will; routing and commits are the worker's own, on a
real Postgres. Crashes at any step, and claims in between, are part of the play.

    bench = Bench(db, topic, [table])
    bench.send(0, {...}); bench.mark(0, micros)       # append to a partition's log
    bench.delete(0, b"c1")                            # a record without value
    bench.play(random.Random(7))                      # random cuts, crashes and restarts until everything is consumed
    bench.correct(0, 7, {...})                        # replay the dead letter at offset 7, edited
    bench.decide(0)                                   # as the shard's owner, what is due
    bench.rows("table")                               # what people read
    bench.duck()                                      # DuckDB with the log, for an evaluation by hand
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from psycopg.rows import dict_row

from headrace.failpoint import Failpoints
from ledger import Connection, corrections, left_out, shards, skipped, table_versions, workers
from ledger.corrections import Wish
from schemas.codec import Failure
from schemas.json_codec import JsonDecoder
from stream_workers.batch import Batch, Envelope, Marker
from stream_workers.committing import commit
from stream_workers.correcting import correct
from stream_workers.decoding import decoding
from stream_workers.dedup import look_up
from stream_workers.emit.steps import AlertStep, ChangeStep
from stream_workers.lookups import Lookups
from stream_workers.opening import ShardState, TableState, claim_outboxes
from stream_workers.routing import Forced, Router
from stream_workers.steps import CorrectionStep, Step
from stream_workers.versions import register
from topology import Alert, Topic, compile_pipeline
from topology.program import TableProgram
from topology.transition_compile import with_transitions

# Where a crash takes a transaction with it, and where only the memory is lost.
STEPS = (Step.BEGUN, Step.ADVANCED, Step.STAGED, Step.MERGED, Step.DEAD_LETTERED, Step.INDEXED, Step.COMMITTED)
CORRECTION_STEPS = tuple(CorrectionStep)
SendStep = ChangeStep | AlertStep


class Crash(Exception):
    """The worker dies here."""


class _Crashing(Failpoints):
    def __init__(self, at: Step | CorrectionStep | SendStep | None) -> None:
        super().__init__("")
        self._at = at

    def hit(self, step: Any) -> None:
        if step is self._at:
            raise Crash(step)


@dataclass(frozen=True)
class Entry:
    """A record of the log; without value it is a deletion of `key`, or an end-of-input marker (microseconds)."""

    offset: int
    value: Mapping[str, Any] | None
    kafka_millis: int
    marker: int | None = None
    key: bytes | None = None


@dataclass
class Bench:
    """One pipeline under test."""

    db: Connection
    topic: Topic
    tables: Sequence[Any]
    logs: dict[int, list[Entry]] = field(default_factory=dict)
    crashes: int = 0
    others: Mapping[str, TableProgram] = field(default_factory=dict)  # to look up in
    alerts: Sequence[Alert] = ()  # on transitions
    _gaps: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.logs = {partition: [] for partition in range(self.topic.partitions)}
        self._compile()
        table_versions.drop(self.db, self.program.name)  # of an earlier example
        register(self.db, self.program)
        workers.declare(self.db, [self.program.name])

    def _compile(self) -> None:
        self.program = compile_pipeline(
            self.topic.pipeline_name, self.topic, self.tables, place="tests/operators", others=self.others
        )
        places = dict.fromkeys(map(id, self.alerts), "tests/operators")
        self.program = with_transitions({self.program.name: self.program}, self.alerts, places)[self.program.name]
        self._programs = {table.version_id: table for table in self.program.tables}
        self._router = Router(self.program)
        self._decode = decoding(JsonDecoder(self.program.schema))
        self.lookups = Lookups(self.program, lambda db, of: None)
        self._states: dict[int, ShardState] = {}

    # -- the log

    def send(self, partition: int, value: Mapping[str, Any], kafka_millis: int = 4_000_000_000_000) -> int:
        """Append a record; its offset. The default Kafka timestamp makes no event too far ahead."""
        return self._append(partition, value, kafka_millis, None)

    def mark(self, partition: int, event_time: int, kafka_millis: int = 4_000_000_000_000) -> int:
        """Append an end-of-input marker; `event_time` in microseconds."""
        return self._append(partition, None, kafka_millis, event_time)

    def delete(self, partition: int, key: bytes | None, kafka_millis: int = 4_000_000_000_000) -> int:
        """Append a record without value."""
        return self._append(partition, None, kafka_millis, None, key)

    def skip(self, partition: int) -> None:
        """An offset that Kafka never delivers, such as a transaction's marker. Needs a record after it."""
        self._gaps[partition] = self._gaps.get(partition, 0) + 1

    def _append(
        self,
        partition: int,
        value: Mapping[str, Any] | None,
        kafka_millis: int,
        marker: int | None,
        key: bytes | None = None,
    ) -> int:
        log = self.logs[partition]
        offset = (log[-1].offset + 1 if log else 0) + self._gaps.pop(partition, 0)
        log.append(Entry(offset, value, kafka_millis, marker, key))
        return offset

    def end(self, partition: int) -> int:
        """Offset after the last record."""
        return self.logs[partition][-1].offset + 1 if self.logs[partition] else 0

    def duck(self) -> duckdb.DuckDBPyConnection:
        """DuckDB with the data records as table `log`: the topic's columns, `partition`, `offset`, `kafka_millis`.

        Records without value are table `nulls`: `partition`, `offset`, `key`, and `marker`, event time of a marker.
        """
        found = duckdb.connect()
        found.execute("set TimeZone = 'UTC'")
        rows = [(p, e) for p, log in self.logs.items() for e in log if e.value is not None]
        columns = {
            f.name: pa.array([e.value[f.name] for _, e in rows if e.value is not None], f.arrow)
            for f in self.program.schema.fields
        }
        columns["partition"] = pa.array([p for p, _ in rows], pa.int64())
        columns["offset"] = pa.array([e.offset for _, e in rows], pa.int64())
        columns["kafka_millis"] = pa.array([e.kafka_millis for _, e in rows], pa.int64())
        found.register("arrow_log", pa.table(columns))
        found.execute("create table log as select * from arrow_log")
        found.execute('create table nulls (partition bigint, "offset" bigint, key blob, marker bigint)')
        for partition, entry in ((p, e) for p, log in self.logs.items() for e in log if e.value is None):
            found.execute("insert into nulls values (?, ?, ?, ?)", [partition, entry.offset, entry.key, entry.marker])
        return found

    # -- the worker

    def position(self, partition: int) -> int:
        """Where the worker stands."""
        return self._state(partition).next_offset

    def advance(self, partition: int, to_offset: int, crash: Step | SendStep | None = None) -> None:
        """Consume one batch up to `to_offset`; with `crash` the worker dies at that step and is started again."""
        state = self._state(partition)
        start = state.next_offset
        if start >= to_offset:
            return
        batch = self._batch(partition, start, to_offset)
        try:
            batch = self.lookups.enrich(self.db, batch)
            marks = {version: table.watermark for version, table in state.tables.items()}
            routed = self._router.route(batch, marks, Forced(), look_up(self.db, partition))
            state.tables.update(commit(self.db, _Crashing(crash), batch, state, self._programs, routed))
        except Crash:
            self.crashes += 1
            self.restart(partition)

    def correct(
        self, partition: int, offset: int, value: Mapping[str, Any] | None = None, table: str = ""
    ) -> list[str]:
        """Ask for a dead letter to be replayed, with other values where given; the tables an entry was made for."""
        return self._names(corrections.replay(self.db, self._wishes(partition, offset, value, table), "bench"))

    def discard(self, partition: int, offset: int, table: str = "") -> list[str]:
        """Mark a dead letter as dropped; the tables it was marked for."""
        return self._names(corrections.drop(self.db, self._wishes(partition, offset, None, table), "bench", "no use"))

    def left_out(self, table: str, partition: int) -> dict[int, skipped.Fate]:
        """What a table left out so far, and nobody decided on."""
        at = left_out.place(self.db, table)
        if at is None or partition not in at.partitions:
            return {}
        found = {fate: left_out.find(self.db, at, fate, [partition]).offsets for fate in left_out.FATES}
        return {offset: fate for fate, by in found.items() for offset in by.get(partition, [])}

    def take_back(self, table: str, partition: int, offset: int) -> bool:
        """Ask for a record to be replayed that the table left out; whether an entry was made."""
        at = left_out.place(self.db, table)
        assert at is not None
        (fate,) = skipped.fates(self.db, at.table_version, self.topic.name, partition, [offset]).values()
        (entry,) = (one for one in self.logs[partition] if one.offset == offset)
        assert entry.value is not None
        moment = datetime.fromtimestamp(entry.kafka_millis / 1000, UTC)
        record = left_out.Record(offset, _payload(entry.value), entry.key, {}, moment)
        return bool(left_out.ask(self.db, at, fate, partition, [record], "bench"))

    @staticmethod
    def _names(made: list[tuple[int, str]]) -> list[str]:
        return [version.partition("@")[0] for _, version in made]

    def _wishes(self, partition: int, offset: int, value: Mapping[str, Any] | None, table: str) -> list[Wish]:
        payload = None if value is None else _payload(value)
        found = self.db.execute(
            "select d.record_id, d.table_version from ledger.dead_letters d"
            " join ledger.dead_letter_records r using (record_id)"
            ' where r.topic = %s and r.partition = %s and r."offset" = %s',
            (self.topic.name, partition, offset),
        )
        return [Wish(record, version, payload) for record, version in found if version.startswith(table)]

    def decide(self, partition: int, crash: CorrectionStep | SendStep | None = None) -> None:
        """Decide the corrections that are due; with `crash` the worker dies at that step and is started again."""
        try:
            parts = (_Crashing(crash), self._decoded, self._router, self._programs, self._state(partition))
            correct(self.db, *parts)
        except Crash:
            self.crashes += 1
            self.restart(partition)

    def _decoded(self, batch: Batch) -> Batch:
        return self.lookups.enrich(self.db, self._decode(batch))

    def rebuild(self, tables: Sequence[Any] | None = None) -> None:
        """Forget rows and positions, as `headrace pipeline rebuild` does; tables: as they are declared from now on."""
        if tables is not None:
            self.tables = tables
            self._compile()
        with self.db.transaction():
            table_versions.drop(self.db, self.program.name)
            register(self.db, self.program)
        self._states.clear()

    def restart(self, partition: int) -> None:
        """Throw the shard's memory away; the next batch claims it anew."""
        self._states.pop(partition, None)

    def play(self, rng: random.Random, *, crash: float = 0.15, restart: float = 0.1) -> None:
        """Consume everything: partitions in random order, random cuts, now and then a crash or another claim."""
        while behind := [p for p in self.logs if self.position(p) < self.end(p)]:
            partition = rng.choice(behind)
            at, end = self.position(partition), self.end(partition)
            to = rng.randint(at + 1, min(end, at + rng.choice([1, 3, 10, 1_000])))
            self.advance(partition, to, rng.choice(STEPS) if rng.random() < crash else None)
            if rng.random() < restart:
                self.restart(partition)

    def _state(self, shard: int) -> ShardState:
        if shard not in self._states:
            claims = shards.claim(self.db, sorted(self._programs), shard, "bench")
            boxes = claim_outboxes(self.db, self.program, shard, "bench", {})
            state = ShardState(shard, self.topic.name, "born", outboxes=boxes)
            for claim in claims:
                at = claim.positions.get(self.topic.name)
                if at is None:
                    shards.start(self.db, claim, self.topic.name, shard, "topic-id", 0)
                state.tables[claim.table_version] = TableState(
                    claim.table_version,
                    claim.epoch,
                    at.next_offset if at else 0,
                    at.watermark if at else None,
                    at.ended if at else None,
                    -1,
                    correction_seq=at.correction_seq if at else 0,
                )
            self._states[shard] = state
        return self._states[shard]

    def _batch(self, partition: int, start: int, stop: int) -> Batch:
        entries = [entry for entry in self.logs[partition] if start <= entry.offset < stop]
        data = [(i, entry.value) for i, entry in enumerate(entries) if entry.value is not None]
        columns = [pa.array([value[f.name] for _, value in data], f.arrow) for f in self.program.schema.fields]
        stamps = np.array([entry.kafka_millis for entry in entries], np.int64)
        index = np.array([i for i, _ in data], np.int64)
        offsets = np.array([entry.offset for entry in entries], np.int64)
        own = [pa.array(index), pa.array(stamps[index]), pa.array(offsets[index])]
        names = [*self.program.schema.arrow.names, "_i", "_ts", "_offset"]
        return Batch(
            shard=partition,
            topic=self.topic.name,
            partition=partition,
            from_offset=start,
            to_offset=stop,
            leader_epoch=0,
            level=stop == self.end(partition),
            payloads=[None if entry.value is None else _payload(entry.value) for entry in entries],
            offsets=offsets,
            timestamps=stamps,
            envelope=lambda i: Envelope(entries[i].key, {}),
            markers=tuple(Marker(i, entry.marker) for i, entry in enumerate(entries) if entry.marker is not None),
            frame=pa.RecordBatch.from_arrays([*columns, *own], names=names),
            failures=tuple(
                Failure(i, "empty_value", "null")
                for i, entry in enumerate(entries)
                if entry.value is None and entry.marker is None
            ),
        )

    # -- what is asked

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Rows of a view."""
        with self.db.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(f'select * from public."{table}"'.encode()).fetchall()

    def accounting(self) -> list[dict[str, Any]]:
        """Position rows: every fate by table version and partition; both identities are asserted."""
        with self.db.cursor(row_factory=dict_row) as cursor:
            found = cursor.execute("select * from ledger.positions order by table_version, partition").fetchall()
        for row in found:
            fates = ("applied", "late", "duplicate", "dead_lettered", "filtered", "control")
            assert row["consumed"] == sum(row[fate] for fate in fates), row
            assert row["next_offset"] - row["first_offset"] == row["consumed"] + row["gaps"], row
        return found


def _payload(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, default=str).encode()
