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
from ledger.corrections import Outcome
from stream_workers.correcting import correct
from stream_workers.derive import position
from stream_workers.derive.committing import Committing
from stream_workers.derive.correcting import Correcting, as_decided, decided
from stream_workers.derive.opening import DerivedShard
from stream_workers.derive.position import Made
from stream_workers.derive.producer import ShardProducer
from stream_workers.derive.steps import DeriveStep
from stream_workers.opening import ShardState
from stream_workers.routing import Forced, Router
from stream_workers.steps import CorrectionStep
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
STEPS = tuple(step for step in DeriveStep if not step.name.startswith(("MARK", "TAKEN", "STARTED", "CORR")))
CORRECTION_STEPS = (*(step for step in DeriveStep if step.name.startswith("CORR")), CorrectionStep.ADOPTED)

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
    def __init__(self, at: DeriveStep | CorrectionStep | None) -> None:
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

    def decide(self, partition: int, crash: Any = None) -> None:
        state = self._state(partition)
        failpoints = _Crashing(crash)
        committing = Committing("shop", self._programs, "failed", dict.fromkeys(self._programs, 7), failpoints)
        write = Correcting(self.db, committing, failpoints)
        try:
            correct(self.db, failpoints, self._decoded, self._router, self._programs, state, write)
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


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)
@given(
    orders=st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 3), st.sampled_from([-5, 700, 9_500]), st.booleans()),
        min_size=1,
        max_size=20,
    ),
    words=st.lists(
        st.tuples(
            st.integers(0, 40),  # which dead letter, of those there are
            st.sampled_from(["", "by-product", "done"]),  # of which topic, "": of all
            st.sampled_from(["as it is", "drop", -5, 700, 800, 9_500]),  # cents
        ),
        min_size=3,
        max_size=12,
    ),
    seed=st.integers(0, 2**32),
)
def test_a_corrected_record_is_sent_once_whatever_crashes(
    db: Connection, orders: list[tuple[int, int, int, bool]], words: list[tuple[int, str, Any]], seed: int
) -> None:
    db.execute("delete from ledger.corrections")  # of an earlier example: the topic is not the same
    bench = DerivedBench(db, SOURCE, [BY_PRODUCT, DONE])
    for number, (partition, product, cents, gap) in enumerate(orders):
        if gap:
            bench.skip(partition)
        changes = {"orderId": f"o{number}", "productId": f"p{product}", "orderAmount": cents / 100}
        bench.send(partition, {**ORDER, **changes}, kafka_millis=1_800_000_000_000 + number)
    rng, sent, rebuilds = random.Random(seed), dict[tuple[str, int, int], int](), 1
    behind = True
    while behind or words:
        behind = bool([p for p in bench.logs if bench.position(p) < bench.end(p)])
        turn, partition = rng.random(), rng.choice(list(bench.logs))
        if turn < 0.4 and bench.position(partition) < bench.end(partition):
            to = rng.randint(bench.position(partition) + 1, bench.end(partition))
            bench.advance(partition, to, rng.choice(STEPS) if rng.random() < 0.4 else None)
        elif turn < 0.6 and words:
            _say(bench, sent, *words.pop())
        elif turn < 0.95:
            bench.decide(partition, rng.choice([None, *CORRECTION_STEPS]))
        elif rebuilds:
            rebuilds -= 1
            bench.rebuild()
    for partition in [*bench.logs, *bench.logs]:
        bench.decide(partition)

    taken = {at: cents for at, cents in sent.items() if 0 < cents < (9_000 if at[0] == "by-product" else 10_001)}
    entries = {(p, e.offset): e.value or {} for p, log in bench.logs.items() for e in log}
    good = {at: round(value["orderAmount"] * 100) for at, value in entries.items()}
    made = {("by-product", *at): cents for at, cents in good.items() if 0 < cents < 9_000}
    made |= {("done", *at): cents for at, cents in good.items() if cents > 0}
    assert not made.keys() & taken.keys()
    for derived in (BY_PRODUCT, DONE):
        expected = Counter(
            (entries[p, o]["orderId"], *([cents] if name == "by-product" else []))
            for (name, p, o), cents in (*made.items(), *taken.items())
            if name == derived.name
        )
        at = 2, 4
        found = Counter(tuple(row[i] for i in at if i < len(row) - 1) for row in bench.made(derived).elements())
        assert found == expected, derived.name
    replayed = db.execute(
        "select split_part(d.table_version, '@', 1), r.partition, r.\"offset\" from ledger.dead_letters d"
        " join ledger.dead_letter_records r using (record_id) where d.state = 'replayed'"
    ).fetchall()
    assert set(replayed) == set(taken)
    for row in bench.accounting():
        name = row["table_version"].split("@")[0]
        assert row["replayed"] == len([at for at in taken if at[:2] == (name, row["partition"])])
        if row["next_offset"]:
            held = position.load(*bench.kafka[row["partition"]].held[position.group_of(name)], name)
            assert held.correction_seq <= row["correction_seq"]


def _say(bench: DerivedBench, sent: dict[tuple[str, int, int], int], which: int, name: str, what: Any) -> None:
    """What a person says about a dead letter; sent: with which amount it is replayed, the last word counts."""
    values = {(p, e.offset): e.value for p, log in bench.logs.items() for e in log if e.value}
    dead = [at for at, value in values.items() if not 0 < value["orderAmount"] < 90]
    if not dead:
        return
    partition, offset = dead[which % len(dead)]
    value = values[partition, offset]
    if what == "drop":
        made, cents = bench.discard(partition, offset, name), 0
    elif what == "as it is":
        made, cents = bench.correct(partition, offset, None, name), round(value["orderAmount"] * 100)
    else:
        made, cents = bench.correct(partition, offset, {**value, "orderAmount": what / 100}, name), what
    sent |= {(topic, partition, offset): cents for topic in made}


def test_what_kafka_took_stays_decided() -> None:
    held = decided(Made("v", "s", "o", 0, 9), 5, 8, [Outcome(6, 0, "refused", "bad"), Outcome(8, 2, "replayed")])
    assert (held.correction_seq, held.decided_from, held.refused) == (8, 5, 1)
    # The registry knows by now what it did not know, and the other way round.
    again = [Outcome(4, 1, "replayed"), Outcome(6, 0, "replayed"), Outcome(7, 1, "dropped"), Outcome(8, 2, "refused")]
    found = [one.outcome for one in as_decided(held, again)]
    assert found == ["replayed", "refused", "dropped", "replayed"]


def test_the_positions_metadata_stays_small() -> None:
    most = 2**99 - 1
    numbers = [field.name for field in fields(Made) if field.name not in ("version", "source_id", "output_id")]
    largest: dict[str, Any] = dict.fromkeys(numbers, most)
    made = replace(Made("f" * 12, "s" * 22, "o" * 22, 0, 0), **largest)
    assert len(made.dump()) < 1_000 and position.load(most, made.dump(), "x") == made
    assert replace(made, marker=None).dump() != made.dump()
