"""Topics made of a topic: any cuts and any crash between Kafka's transaction and the ledger's give each result once.

Kafka is a list here that keeps what was committed; routing, encoding, counting and the ledger are the worker's own.
"""

from __future__ import annotations

import io
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import fastavro
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from headrace.failpoint import Failpoints
from headrace.transactions import Header
from ledger import Connection
from stream_workers.derive import position
from stream_workers.derive.committing import Committing
from stream_workers.derive.opening import DerivedShard
from stream_workers.derive.position import Made
from stream_workers.derive.producer import ShardProducer
from stream_workers.derive.steps import DeriveStep
from stream_workers.opening import ShardState
from stream_workers.routing import Forced, Router
from tests.operators.bench import Bench, Crash
from tests.operators.conftest import EXAMPLES
from tests.topology.declare import ORDER, topic
from topology import Alert, Derived

SOURCE = topic(partitions=2, dead_letters="failed")
COLUMNS = {"productId": "productId", "orderId": "orderId", "at": "orderTimestamp"}
BY_PRODUCT = Derived(
    "by-product",
    source=SOURCE,
    key="productId",
    columns={**COLUMNS, "cents": "cast(round(orderAmount * 100) as bigint)"},
    require={"cheap": "cents < 9000"},
)
DONE = Derived("done", source=SOURCE, key="orderId", columns=COLUMNS, where="status = 'COMPLETED'")
ALERTS = Alert(
    "alerts",
    source=SOURCE,
    when="orderAmount >= 80",
    columns={"customerId": "customerId", "at": "orderTimestamp", "amount": "orderAmount"},
)
STEPS = tuple(step for step in DeriveStep if not step.name.startswith(("MARK", "TAKEN", "STARTED")))

ORDERS = st.lists(
    st.tuples(
        st.integers(0, 1),  # partition
        st.integers(0, 3),  # product
        st.integers(-100, 10_000),  # cents: those below 1 and from 9,000 on are refused
        st.sampled_from(["COMPLETED", "FAILED"]),
        st.booleans(),  # an offset that Kafka never delivers before it
    ),
    max_size=40,
)


class _Crashing(Failpoints):
    def __init__(self, at: DeriveStep | None) -> None:
        super().__init__("")
        self._at = at

    def hit(self, step: Any) -> None:
        if step is self._at:
            raise Crash(step)


class Memory(ShardProducer):
    """What was committed; what is open goes with an abort or with the process."""

    def __init__(self) -> None:
        self.records: list[tuple[str, str, bytes, int]] = []
        self.letters: list[dict[str, bytes]] = []
        self.held: dict[str, tuple[int, str]] = {}
        self._open: list[Any] = []

    def begin(self) -> None:
        self._open = []

    def send(self, topic: str, keys: Sequence[str], values: Sequence[bytes], timestamps: Sequence[int]) -> None:
        self._open += [(topic, *record) for record in zip(keys, values, timestamps, strict=True)]

    def produce(
        self,
        topic: str,
        key: str | bytes | None,
        value: bytes | None,
        headers: Sequence[Header],
        partition: int | None = None,
    ) -> None:
        self._open.append(dict(headers))

    def commit_positions(self, positions: Mapping[str, tuple[int, str]]) -> None:
        self._open.append(positions.items())

    def commit(self) -> None:
        for one in self._open:
            if isinstance(one, tuple):
                self.records.append(one)
            elif isinstance(one, dict):
                self.letters.append(one)
            else:
                self.held.update(one)
        self._open = []

    def abort(self) -> None:
        self._open = []


class DerivedBench(Bench):
    """A bench whose batches end in a Kafka of lists."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.kafka = {partition: Memory() for partition in self.logs}
        self._route = Router(self.program)

    def _state(self, shard: int) -> ShardState:
        if isinstance(self._states.get(shard), DerivedShard):
            return self._states[shard]
        claimed = super()._state(shard)
        state = DerivedShard(shard, claimed.topic, claimed.born, claimed.tables, self.kafka[shard])
        for version, table in self._programs.items():
            held = self.kafka[shard].held.get(position.group_of(table.name))
            fresh = Made(table.version, "source", "output", 0, 0)
            state.made[version] = position.load(*held, table.name) if held else fresh
        self._states[shard] = state
        return state

    def advance(self, partition: int, to_offset: int, crash: Any = None) -> None:
        state = self._state(partition)
        assert isinstance(state, DerivedShard)
        committing = Committing("shop", self._programs, "failed", dict.fromkeys(self._programs, 7), _Crashing(crash))
        start = state.next_offset
        try:
            while start < to_offset:
                stop = min([to_offset, *(edge for edge in state.edges() if edge > start)])
                batch = self._batch(partition, start, stop)
                marks = {v: t.watermark for v, t in state.tables.items() if t.next_offset <= start}
                routed = self._route.route(batch, marks, Forced())
                state.tables.update(committing.commit(self.db, batch, state, routed))
                start = stop
        except Crash:
            self.crashes += 1
            self.restart(partition)

    def made(self, derived: Derived) -> Counter[tuple[Any, ...]]:
        """Key, values and Kafka timestamp of every record of a topic, decoded by hand."""
        schema = fastavro.parse_schema(derived.shape.parsed)
        found: Counter[tuple[Any, ...]] = Counter()
        for memory in self.kafka.values():
            for name, key, value, stamp in memory.records:
                if name == derived.name:
                    record = fastavro.schemaless_reader(io.BytesIO(value[5:]), schema)
                    assert isinstance(record, dict)
                    found[key, *record.values(), stamp] += 1
        return found


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)
@given(orders=ORDERS, seed=st.integers(0, 2**32))
def test_equals_the_query_whatever_crashes(
    db: Connection, orders: list[tuple[int, int, int, str, bool]], seed: int
) -> None:
    bench = DerivedBench(db, SOURCE, [BY_PRODUCT, DONE, ALERTS])
    for number, (partition, product, cents, status, gap) in enumerate(orders):
        if gap:
            bench.skip(partition)
        changes = {"orderId": f"o{number}", "productId": f"p{product}", "orderAmount": cents / 100, "status": status}
        bench.send(partition, {**ORDER, **changes}, kafka_millis=1_800_000_000_000 + number)
    rng = random.Random(seed)
    while behind := [p for p in bench.logs if bench.position(p) < bench.end(p)]:
        partition = rng.choice(behind)
        at, end = bench.position(partition), bench.end(partition)
        to = rng.randint(at + 1, min(end, at + rng.choice([1, 3, 10, 1_000])))
        bench.advance(partition, to, rng.choice(STEPS) if rng.random() < 0.4 else None)
    duck = bench.duck()
    assert bench.made(BY_PRODUCT) == Counter(
        duck.sql(
            "select productId, productId, orderId, orderTimestamp, round(orderAmount * 100)::bigint, kafka_millis"
            " from log where orderAmount > 0 and round(orderAmount * 100) < 9000"
        ).fetchall()
    )
    assert bench.made(DONE) == Counter(
        duck.sql(
            "select orderId, productId, orderId, orderTimestamp, kafka_millis from log"
            " where orderAmount > 0 and status = 'COMPLETED'"
        ).fetchall()
    )
    assert bench.made(ALERTS) == Counter(
        duck.sql(
            "select customerId, concat_ws(':', 'alerts', 'orders', partition, log.offset), customerId, orderTimestamp,"
            " orderAmount, kafka_millis from log where orderAmount >= 80"
        ).fetchall()
    )
    letters = Counter(letter["headrace-reason"] for memory in bench.kafka.values() for letter in memory.letters)
    refused = duck.sql("select count(*) filter (orderAmount <= 0), count(*) filter (orderAmount >= 90) from log")
    (bad, dear), *_ = refused.fetchall()
    assert letters == Counter({b"require:positive_amount": bad, b"require:cheap": dear})
    for row in (row for row in bench.accounting() if row["next_offset"]):
        kafka = bench.kafka[row["partition"]].held[position.group_of(row["table_version"].split("@")[0])]
        held = position.load(*kafka, row["table_version"])
        counted = tuple(row[name] for name in ("consumed", "applied", "filtered", "dead_lettered", "control", "gaps"))
        assert (held.next_offset, held.counts) == (row["next_offset"], counted)
        assert held.watermark == row["watermark"]
        assert len(held.dump()) < 1_000
    told = db.execute("select count(*) from ledger.dead_letters where table_version like 'by-product@%'").fetchall()
    assert told == [(bad + dear,)]


def test_the_positions_metadata_stays_small() -> None:
    most = 2**63 - 1
    numbers = [field.name for field in fields(Made) if field.name not in ("version", "source_id", "output_id")]
    largest: dict[str, Any] = dict.fromkeys(numbers, most)
    made = replace(Made("f" * 12, "s" * 22, "o" * 22, 0, 0), **largest)
    assert len(made.dump()) < 1_000 and position.load(most, made.dump(), "x") == made
    assert replace(made, marker=None).dump() != made.dump()
