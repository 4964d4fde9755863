"""Orders beside what their customer was at the time, by workers that are killed, ahead of those of the customers."""

from __future__ import annotations

import io
import logging
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import duckdb
import fastavro
import pyarrow as pa
import pytest
from confluent_kafka import TopicPartition

from ledger import lookups
from stream_workers import leveling
from stream_workers.leveling import WAIT_SECONDS, Leveling
from stream_workers.steps import Step
from tests.conftest import Services
from tests.stream_workers.harness import Rig
from tests.stream_workers.orders import SCHEMA

# `events` and `orders` are the logs; `vectors`: ranges of orders with the offset of each partition of `events`.
_EXPECTED = """
    with o as (
        select o.*, epoch_us(cast(orderTimestamp as timestamptz)) as t, v.next
          from orders o join vectors v
            on v.partition = o.partition and o."offset" >= v.start and o."offset" < v.stop where orderAmount > 0),
    e as (select *, epoch_us(cast(orderTimestamp as timestamptz)) as t from events where orderAmount > 0),
    found as (
        select o.orderId, o.quantity, o.t, e.status as tier, e.quantity as discount
          from o join e on e.customerId = o.customerId and e.t <= o.t and e."offset" < o.next[e.partition + 1]
        qualify row_number() over (
            partition by o.orderId order by e.t desc, e.partition desc, e."offset" desc) = 1)
    select tier, make_timestamptz(t // 86400000000 * 86400000000), count(*), sum(discount * quantity)
      from found group by all
"""
# An entry of nothing but offsets that Kafka never delivers looks nothing up.
_ENTRIES = (
    "select partition, from_offset, to_offset, lookup_vector from ledger.batch_index"
    " where topic = %s and (lookup_vector is not null or records > 0)"
)


@pytest.fixture
def customers(rig: Rig, stack: Services) -> Iterator[Rig]:
    """The pipeline of the table looked up in, over the same database."""
    folder = rig.log_dir / "customers"
    folder.mkdir()
    found = Rig(stack, rig.database, f"{rig.topic}-customers", folder, pipeline="customers")
    found.number = 1_000_000
    try:
        yield found
    finally:
        found.close()


def test_killed_workers_find_what_the_vectors_say(rig: Rig, customers: Rig, seed: int) -> None:
    given = {
        "HEADRACE_CATALOG": "tests.catalogs_lookup",
        "HEADRACE_BATCH_RECORDS": "100",
        "TEST_TOPIC": rig.topic,
        "TEST_CUSTOMERS_TOPIC": customers.topic,
    }
    customers.produce(seed, 600, ["negative"])
    rig.produce(seed + 1, 900, ["negative"])
    doomed = rig.start(HEADRACE_FAILPOINTS=f"{Step.MERGED.value}:kill:5", **given)
    rig.wait(lambda: "was never built" in str(rig.query("select error from ledger.shards where error is not null")))
    customers.start(**given)
    customers.wait(lambda: _done(customers))
    rig.wait(lambda: doomed.poll() is not None, alive=False)
    assert doomed.returncode == -signal.SIGKILL, rig.logs()
    rig.start(**given)
    rig.wait(lambda: _done(rig))
    customers.produce(seed + 2, 400)
    seen, sent = customers.ends(), rig.ends()
    rig.produce(seed + 3, 600)
    rig.wait(lambda: _done(rig))
    customers.wait(lambda: _done(customers))
    entries = rig.query(_ENTRIES, rig.topic)
    vectors = []
    for partition, start, stop, found in entries:
        (levels,) = found.values()
        offsets = [levels.get(str(p), [0])[0] for p in range(customers.partitions)]
        vectors.append({"partition": partition, "start": start, "stop": stop, "next": offsets})
        if start >= sent[partition]:  # what was there before these orders has been waited for
            assert all(offset >= seen[p] for p, offset in enumerate(offsets))
    assert sorted(rig.query("select * from per_tier")) == sorted(_expected(rig, customers, vectors))
    misses = rig.query("select count(*)::int from ledger.dead_letters where reason = 'not_found:customers'")
    taken = rig.query("select sum(orders)::int from per_tier")
    assert misses[0][0] + taken[0][0] == len(rig.sent.good) and misses[0][0] and taken[0][0]


def _expected(rig: Rig, customers: Rig, vectors: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    con = duckdb.connect()
    con.execute("set TimeZone = 'UTC'")
    con.register("orders", _log(rig))
    con.register("events", _log(customers))
    con.register("vectors", pa.Table.from_pylist(vectors))
    rows = con.sql(_EXPECTED).fetchall()
    return [(tier, day, day + timedelta(days=1), count, int(discounts)) for tier, day, count, discounts in rows]


def _log(rig: Rig) -> pa.Table:
    """The records of a topic with their coordinates."""
    consumer, schema = rig._reader(), fastavro.parse_schema(SCHEMA)
    consumer.assign([TopicPartition(rig.topic, p, 0) for p in range(rig.partitions)])
    rows: list[Mapping[str, Any]] = []
    ended: set[int | None] = set()
    while len(ended) < rig.partitions:
        for message in consumer.consume(10_000, 1.0):
            if message.error() is not None:
                ended.add(message.partition())
                continue
            value = fastavro.schemaless_reader(io.BytesIO((message.value() or b"")[5:]), schema, None)
            assert isinstance(value, dict)
            rows.append({**value, "partition": message.partition(), "offset": message.offset()})
    consumer.close()
    return pa.Table.from_pylist(rows)


def _done(rig: Rig) -> bool:
    """Whether everything sent to the topic was consumed."""
    ends = rig.ends()
    rows = rig.query("select partition, next_offset, consumed from ledger.positions where topic = %s", rig.topic)
    consumed = sum(consumed for *_, consumed in rows)
    return (
        len(rows) == rig.partitions
        and all(offset == ends[p] for p, offset, _ in rows)
        and consumed == len(rig.sent.messages)
    )


# -- how long is waited


@dataclass
class Fake:
    """A clock that nobody waits for, and the table's position at each moment."""

    moves: dict[float, int] = field(default_factory=lambda: {0.0: 3})
    at: float = 0.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.at, UTC)

    def monotonic(self) -> float:
        return self.at

    def wait(self, seconds: float) -> None:
        self.at += seconds

    def positions(self, db: object, versions: list[str]) -> lookups.Vector:
        offset = [to for moment, to in sorted(self.moves.items()) if moment <= self.at][-1]
        return {version: {0: lookups.Level(offset, 0)} for version in versions}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    fake = Fake()
    monkeypatch.setattr(leveling, "positions", fake.positions)
    return fake


def waited(fake: Fake, of: Leveling) -> float:
    before = fake.at
    of.wait(None, [SimpleNamespace(version_id="customers@1", topic="customers")])  # type: ignore[arg-type, list-item]
    return fake.at - before


def test_a_table_is_waited_for_until_it_is_level_but_not_for_ever(fake: Fake, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    kafka = SimpleNamespace(describe=lambda topic: SimpleNamespace(end={0: 10, 1: 0}))
    of = Leveling(kafka, fake)  # type: ignore[arg-type]
    fake.moves[1.0] = 10
    assert waited(fake, of) == pytest.approx(1, abs=0.1) and waited(fake, of) == 0
    assert not caplog.records
    fake.moves = {0.0: 4}
    assert waited(fake, of) == pytest.approx(WAIT_SECONDS, abs=0.1)
    assert "lookups do not wait" in caplog.text and "behind=6" in caplog.text
    assert waited(fake, of) == 0  # nobody works on it
    fake.moves |= {fake.at: 5, fake.at + 2: 10}
    assert waited(fake, of) == pytest.approx(2, abs=0.1)  # somebody does again
