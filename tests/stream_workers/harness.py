"""A pipeline under test: its topic, its database, its workers, and the questions every test asks at the end."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from tests.conftest import Services
from tests.stream_workers import orders
from tests.stream_workers.orders import BAD, OLDER, SCHEMA, Message, Sent

MARKER = "headrace-marker"


@dataclass
class Rig:
    """One pipeline over a topic and database of the test's own; `orders` unless said otherwise."""

    stack: Services
    database: str
    topic: str
    log_dir: Path
    partitions: int = 4
    sent: Sent = field(default_factory=Sent)
    markers: int = 0
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    number: int = 0
    pipeline: str = "orders"

    def __post_init__(self) -> None:
        self.admin = AdminClient({"bootstrap.servers": self.stack.kafka_bootstrap})
        self.create_topic()
        registry = SchemaRegistryClient({"url": self.stack.registry_url})
        self.schema_id = registry.register_schema(f"{self.topic}-value", Schema(json.dumps(SCHEMA), "AVRO"))

    # -- the topic

    def create_topic(self) -> None:
        self.admin.create_topics([NewTopic(self.topic, self.partitions, 1)])[self.topic].result()

    def delete_topic(self) -> None:
        self.admin.delete_topics([self.topic])[self.topic].result()

    def produce(
        self, seed: int, good: int, bad: Iterable[str] = (), *, per_transaction: int = 2000, abort_every: int = 5
    ) -> None:
        """Send orders in transactions; every `abort_every`th transaction is sent twice, the first time aborted."""
        rng = random.Random(seed)
        kinds = ["good"] * good + list(bad)
        rng.shuffle(kinds)
        messages = []
        for kind in kinds:
            messages.append(orders.message(rng, self.schema_id, self.number, kind))
            self.number += 1
        producer = self._producer()
        for count, start in enumerate(range(0, len(messages), per_transaction)):
            part = messages[start : start + per_transaction]
            if count % abort_every == abort_every - 1:
                producer.begin_transaction()
                self._send(producer, part)
                producer.abort_transaction()
            producer.begin_transaction()
            self._send(producer, part)
            producer.commit_transaction()
            self.sent.messages += part

    def send(self, messages: list[Message], partition: int = -1) -> None:
        """Send these in one transaction; -1: to the partitions of their keys."""
        producer = self._producer()
        producer.begin_transaction()
        self._send(producer, messages, partition)
        producer.commit_transaction()
        self.sent.messages += messages

    def produce_older(self, seed: int, good: int) -> None:
        """Send orders of an earlier version of the schema."""
        registry = SchemaRegistryClient({"url": self.stack.registry_url})
        older = registry.register_schema(f"{self.topic}-older", Schema(json.dumps(OLDER), "AVRO"))
        rng = random.Random(seed)
        messages = []
        for _ in range(good):
            order = {**orders.order(rng, self.number), "status": rng.choice(["COMPLETED", "FAILED"])}
            value = orders.encode(older, order, older=True)
            messages.append(Message("good", order["customerId"].encode(), value, order))
            self.number += 1
        producer = self._producer()
        producer.begin_transaction()
        self._send(producer, messages)
        producer.commit_transaction()
        self.sent.messages += messages

    def mark_end(self, event_time: int) -> None:
        """End-of-input markers in every partition."""
        producer = self._producer()
        producer.begin_transaction()
        for partition in range(self.partitions):
            headers: dict[str, str | bytes | None] = {MARKER: b"end-of-input", "event-time": str(event_time)}
            producer.produce(self.topic, None, None, partition=partition, headers=headers)
        producer.commit_transaction()
        self.markers += self.partitions

    def _producer(self) -> Producer:
        producer = Producer(
            {
                "bootstrap.servers": self.stack.kafka_bootstrap,
                "transactional.id": uuid.uuid4().hex,
                "partitioner": "murmur2_random",
                "linger.ms": 5,
            }
        )
        producer.init_transactions()
        return producer

    def _send(self, producer: Producer, messages: list[Message], partition: int = -1) -> None:
        for message in messages:
            producer.produce(self.topic, message.value, message.key, partition)
        producer.flush()

    # -- workers

    def environment(self, **extra: str) -> dict[str, str]:
        return {
            **os.environ,
            "HEADRACE_POSTGRES_URL": self.database,
            "HEADRACE_CATALOG": "tests.catalogs",
            "TEST_TOPIC": self.topic,
            "TEST_PARTITIONS": str(self.partitions),
            "HEADRACE_LEASE_SECONDS": "2",
            "HEADRACE_CHECK_SECONDS": "0.5",
            "PYTHONFAULTHANDLER": "1",
            **extra,
        }

    def start(self, name: str = "", **extra: str) -> subprocess.Popen[bytes]:
        """Start a worker process, as a person would."""
        name = name or f"{self.pipeline}-{len(self.workers)}-{uuid.uuid4().hex[:4]}"
        with (self.log_dir / f"{name}.log").open("wb") as out:
            worker = subprocess.Popen(
                [sys.executable, "-m", "cli.main", "worker", "run", self.pipeline, "--worker", name],
                env=self.environment(**extra),
                stdout=out,
                stderr=out,
            )
        self.workers.append(worker)
        return worker

    def stop(self, worker: subprocess.Popen[bytes]) -> int:
        """Drain a worker; returns its exit code."""
        worker.send_signal(signal.SIGTERM)
        return worker.wait(30)

    def close(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
                worker.wait()
        self.admin.delete_topics([self.topic])

    def logs(self) -> str:
        return "\n".join(f"--- {f.name}\n{f.read_text()[-3000:]}" for f in sorted(self.log_dir.rglob("*.log")))

    # -- what is asked

    def query(self, text: str, *given: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database, autocommit=True) as db:
            return db.execute(text.encode(), given).fetchall()

    def ends(self) -> dict[int, int]:
        """Last stable offset of every partition."""
        consumer = self._reader()
        try:
            return {
                p: consumer.get_watermark_offsets(TopicPartition(self.topic, p), timeout=20)[1]
                for p in range(self.partitions)
            }
        finally:
            consumer.close()

    def level(self) -> bool:
        """Whether every table stands at the end of every partition."""
        ends = self.ends()
        found = self.query("select table_version, partition, next_offset from ledger.positions")
        reached = {(v, p) for v, p, offset in found if offset >= ends[p]}
        wanted = 2 * sum(1 for end in ends.values() if end > 0)
        return len(reached) >= wanted and len(found) == 2 * self.partitions

    def done(self) -> bool:
        """Whether everything sent was consumed: Kafka shows the last records a moment after their commit."""
        rows = self.query("select sum(consumed)::int from ledger.positions group by table_version")
        return self.level() and all(consumed == len(self.sent.messages) + self.markers for (consumed,) in rows)

    def wait(self, done: Callable[[], bool], seconds: float = 60, *, alive: bool = True) -> None:
        """Wait until `done`; fails at once when a worker that should live is gone."""
        until = time.monotonic() + seconds
        while not done():
            gone = [w.returncode for w in self.workers if w.poll() is not None]
            assert not (alive and len(gone) == len(self.workers)), f"workers ended: {gone}\n{self.logs()}"
            assert time.monotonic() < until, f"not done after {seconds} s\n{self.state()}\n{self.logs()}"
            time.sleep(0.1)

    def state(self) -> str:
        """Where log, tables, workers and fleet stand, for the message of a test that waits in vain."""
        queries = {
            "positions": "select table_version, partition, next_offset, consumed from ledger.positions order by 1, 2",
            "workers": "select worker, pid, state, last_error from ledger.workers",
            "fleet": "select instance, ticked_at, now() from ledger.fleet",
            "leases": "select name, holder, expires_at, now() from ledger.leases",
        }
        asked: dict[str, Callable[[], object]] = {"log": self.ends}
        asked |= {name: partial(self.query, text) for name, text in queries.items()}
        found = []
        for name, ask in asked.items():
            try:
                found.append(f"{name}: {ask()}")
            except Exception as error:  # a service that is down, and the first message matters more
                found.append(f"{name}: {error}")
        return "\n".join(found)

    def _reader(self) -> Consumer:
        return Consumer(
            {
                "bootstrap.servers": self.stack.kafka_bootstrap,
                "group.id": uuid.uuid4().hex,
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 20,
            }
        )

    def recount(self) -> tuple[int, int]:
        """(data records, markers) that a read_committed reader of its own finds in the log."""
        consumer = self._reader()
        consumer.assign([TopicPartition(self.topic, p, 0) for p in range(self.partitions)])
        data = markers = 0
        ended: set[int] = set()
        while len(ended) < self.partitions:
            for message in consumer.consume(10_000, 1.0):
                if message.error() is not None:
                    ended.add(message.partition() or 0)
                elif message.value() is None and MARKER in dict(message.headers() or []):
                    markers += 1
                else:
                    data += 1
        consumer.close()
        return data, markers

    def verify(self) -> None:
        """Tables equal the recomputation, both identities hold, every bad record is a dead letter with its reason."""
        assert self.recount() == (len(self.sent.messages), self.markers)
        self.verify_identities()
        self.verify_tables()
        self.verify_dead_letters()

    def verify_identities(self) -> None:
        rows = self.query(
            "select table_version, partition, consumed,"
            " applied + late + duplicate + dead_lettered + filtered + control,"
            " next_offset - first_offset, consumed + gaps from ledger.positions"
        )
        assert len(rows) == 2 * self.partitions
        for version, partition, consumed, fates, span, counted in rows:
            assert consumed == fates, (version, partition)
            assert span == counted, (version, partition)
        totals = self.query(
            "select sum(consumed)::int, sum(control)::int, sum(dead_lettered)::int, sum(applied + filtered)::int"
            " from ledger.positions group by table_version"
        )
        bad = sum(self.sent.bad().values())
        for consumed, control, dead, taken in totals:
            assert consumed == len(self.sent.messages) + self.markers
            assert (control, dead, taken) == (self.markers, bad, len(self.sent.good))
        ends = self.ends()
        assert all(offset == ends[p] for p, offset in self.query("select partition, next_offset from ledger.positions"))

    def verify_tables(self) -> None:
        expected = orders.recompute(self.sent.good)
        totals = self.query(
            'select "customerId", "orders", "totalAmount", "smallestOrder", "largestOrder" from customer_order_totals'
        )
        sales = self.query(
            'select "productId", (extract(epoch from "windowStart") * 1000000)::bigint, "salesAmount", "orders"'
            " from product_sales"
        )
        assert len(set(totals)) == len(totals) and set(totals) == expected["customer_order_totals"]
        assert len(set(sales)) == len(sales) and set(sales) == expected["product_sales"]
        wrong = self.query(
            'select * from customer_order_totals where abs("averageOrder" - "totalAmount" / "orders") > 0.000001'
        )
        assert not wrong

    def verify_dead_letters(self) -> None:
        bad = [m for m in self.sent.messages if m.kind != "good"]
        found = self.query(
            'select d.table_version, d.reason, r.payload, r.key, r.partition, r."offset" from ledger.dead_letters d'
            " join ledger.dead_letter_records r using (record_id)"
        )
        by_table: dict[str, list[tuple[str, bytes | None]]] = {}
        for version, reason, payload, _, partition, offset in found:
            assert partition is not None and offset is not None
            by_table.setdefault(version, []).append((reason, payload))
        if bad:
            assert len(by_table) == 2
        for letters in by_table.values():
            assert sorted(p or b"" for _, p in letters) == sorted(m.value or b"" for m in bad)
            for message in bad:
                assert any(p == message.value and r.startswith(BAD[message.kind]) for r, p in letters), message
        coordinates = [(p, o) for _, _, _, _, p, o in found]
        assert len(set(coordinates)) * 2 == len(coordinates)
