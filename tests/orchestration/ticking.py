"""A pipeline without Kafka for ticks: real ledger, real routing and commits, and a clock that the test moves.

Batches are made of columns instead of being read; everything from routing to the commit is the worker's own code. The
moments that Postgres wrote by its own clock are moved to the test's clock after each step.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
from dagster import AssetCheckEvaluation, AssetKey, AssetMaterialization, AssetObservation, DagsterInstance

from assets import catalog
from headrace.failpoint import Failpoints
from ledger import Connection, connect, ends, shards, workers
from orchestration import keys
from orchestration.flight import Flight, Ticked
from orchestration.tick import Event
from stream_workers.batch import Batch, Envelope
from stream_workers.committing import commit
from stream_workers.opening import ShardState, TableState
from stream_workers.routing import Forced, Router
from stream_workers.versions import register
from tests.conftest import Services, _address, _drop, _make
from topology.program import PipelineProgram

PARTITIONS = 4
MIDNIGHT = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
TOTALS, SALES = keys.table_key("customer_order_totals"), keys.table_key("product_sales")


@contextmanager
def dagster_instance(stack: Services, folder: Path) -> Iterator[DagsterInstance]:
    """A Dagster instance with a Postgres storage of its own."""
    name = f"dagster_{uuid.uuid4().hex[:12]}"
    _make(stack, name)
    url = _address(stack.postgres_url, name).replace("postgresql://", "postgresql+psycopg2://")
    (folder / "dagster.yaml").write_text(
        f"storage:\n  postgres:\n    postgres_url: {url!r}\ntelemetry:\n  enabled: false\n"
    )
    try:
        with DagsterInstance.from_config(str(folder)) as found:
            yield found
    finally:
        _drop(stack, name)


@dataclass
class Line:
    """One pipeline under test: `now` is the test's clock, `on` its toggle."""

    db: Connection
    dagster: DagsterInstance
    now: datetime
    on: bool = True
    cursor: str | None = None
    running: str | None = None
    number: int = 0
    ends: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(PARTITIONS), 0))
    history: list[tuple[datetime, Ticked]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.catalog = catalog.load("tests.catalogs")
        self.declare(self.catalog.pipelines["orders"])
        self.topic = keys.topic_key(self.program.topic.name)
        register(self.db, self.program)
        workers.declare(self.db, ["orders"])
        self._settle("update ledger.pipelines set changed_at = %s", self.now)

    def declare(self, program: PipelineProgram) -> None:
        """The declarations are these from now on; a worker has to start anew."""
        self.program = program
        self.flight = Flight({program.name: program}, "instance-1", "tick", lambda _db: self.now)
        self.router = Router(program)
        self.states: dict[int, ShardState] = {}

    # -- time and ticks

    def tick(self, seconds: float = 5) -> Ticked:
        """Let time pass and tick; the events reach the instance as the daemon would report them."""
        self.now += timedelta(seconds=seconds)
        self.beat()
        done = self.flight.tick(lambda: {"orders": self.on}, self.cursor)
        for event in done.events:
            self.dagster.report_runless_asset_event(event)
        self.cursor = done.cursor
        self.history.append((self.now, done))
        return done

    # -- the worker

    def start(self, name: str) -> None:
        """A worker starts and claims every shard."""
        self.running = name
        topic = self.program.topic.name
        for shard in range(PARTITIONS):
            claims = shards.claim(self.db, [t.version_id for t in self.program.tables], shard, name)
            state = ShardState(shard, topic, "born")
            for claim in claims:
                position = claim.positions.get(topic)
                if position is None:
                    shards.start(self.db, claim, topic, shard, "topic-id", 0)
                at = position.next_offset if position else 0
                state.tables[claim.table_version] = TableState(claim.table_version, claim.epoch, at, None, None, -1)
            self.states[shard] = state
        self._settle("update ledger.shards set claimed_at = %s", self.now)
        self.beat()
        self._settle("update ledger.workers set started_at = %s where worker = %s", self.now, name)

    def stop(self) -> None:
        """It drains and says goodbye."""
        assert self.running
        workers.ended(self.db, self.running, "stopped")
        self.running = None

    def beat(self) -> None:
        """Heartbeat and ends, as the worker writes them (without a worker the supervisor writes the ends)."""
        if self.running:
            workers.beat(
                self.db,
                workers.Beat(
                    self.running, "orders", "host", 1, 1.0, "running", list(range(PARTITIONS)), 0, 100.0, None
                ),
            )
            self._settle("update ledger.workers set heartbeat_at = %s where worker = %s", self.now, self.running)
        for partition, end in self.ends.items():
            row = self.db.execute(
                "select min(next_offset) from ledger.positions where partition = %s", (partition,)
            ).fetchone()
            at = row[0] if row and row[0] is not None else 0
            waiting = None if at >= end else self.now.timestamp() - 5
            ends.see_end(self.db, "orders", self.program.topic.name, partition, end, waiting)
        self._settle("update ledger.ends set seen_at = %s", self.now)

    def produce(self, records: int) -> None:
        """Records reach every partition."""
        for partition in self.ends:
            self.ends[partition] += records

    def consume(self, when: datetime) -> None:
        """The worker commits what there is; the events happened at `when` (and a little before)."""
        for shard, state in self.states.items():
            start, end = state.next_offset, self.ends[shard]
            if start == end:
                continue
            batch = self._batch(shard, start, end, when)
            marks = {version: table.watermark for version, table in state.tables.items()}
            routed = self.router.route(batch, marks, Forced())
            programs = {table.version_id: table for table in self.program.tables}
            state.tables.update(commit(self.db, Failpoints(""), batch, state, programs, routed))
        self._settle("update ledger.positions set level_at = %s where level_at > %s", self.now, self.now)
        self._settle(
            "update ledger.batch_index set started_at = least(started_at, %s), ended_at = %s where ended_at > %s",
            self.now,
            self.now,
            self.now,
        )

    def _batch(self, shard: int, start: int, end: int, when: datetime) -> Batch:
        count = end - start
        offsets = np.arange(start, end, dtype=np.int64)
        stamps = np.full(count, int(self.now.timestamp() * 1000), dtype=np.int64)
        text = when.strftime("%Y-%m-%dT%H:%M:%SZ")
        names = [self.number + i for i in range(count)]
        self.number += count
        columns = {
            "orderId": pa.array([f"o{n}" for n in names]),
            "customerId": pa.array([f"c{shard}-{n % 7}" for n in names]),
            "productId": pa.array([f"p{n % 5}" for n in names]),
            "quantity": pa.array([1] * count, pa.int32()),
            "orderAmount": pa.array([1.25] * count),
            "orderTimestamp": pa.array([text] * count),
            "status": pa.array(["COMPLETED"] * count),
            "_i": pa.array(np.arange(count, dtype=np.int64)),
            "_ts": pa.array(stamps),
        }
        return Batch(
            shard=shard,
            topic=self.program.topic.name,
            partition=shard,
            from_offset=start,
            to_offset=end,
            leader_epoch=0,
            level=True,
            payloads=[b"-"] * count,
            offsets=offsets,
            timestamps=stamps,
            envelope=lambda _i: Envelope(None, {}),
            frame=pa.RecordBatch.from_pydict(columns),
        )

    # -- what is asked

    def days(self) -> set[str]:
        """Days that have rows in the windowed table."""
        rows = self.db.execute("select distinct (\"windowStart\" at time zone 'UTC')::date::text from product_sales")
        return {row[0] for row in rows}

    def events(self) -> list[Event]:
        """Everything reported so far."""
        return [event for _, done in self.history for event in done.events]

    def materialized(self, key: AssetKey) -> list[AssetMaterialization]:
        """Reports of a table."""
        return [e for e in self.events() if isinstance(e, AssetMaterialization) and e.asset_key == key]

    def observed(self) -> list[AssetObservation]:
        """Reports of the topic."""
        return [e for e in self.events() if isinstance(e, AssetObservation)]

    def evaluations(self, check: str) -> list[AssetCheckEvaluation]:
        """Outcomes of a check that were told."""
        return [e for e in self.events() if isinstance(e, AssetCheckEvaluation) and e.check_name == check]

    def _settle(self, statement: str, *given: object) -> None:
        """Move moments that Postgres wrote by its own clock to the test's."""
        self.db.execute(statement.encode(), given)


@contextmanager
def line(database: str, dagster: DagsterInstance, now: datetime) -> Iterator[Line]:
    with connect(database) as db:
        yield Line(db, dagster, now)
