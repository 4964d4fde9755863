"""A pipeline of derived topics under test, and what must be in them: DuckDB over the source's log, written by hand."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import uuid
from collections import Counter
from dataclasses import dataclass
from typing import Any

import duckdb
import fastavro
import pyarrow as pa
from confluent_kafka import Consumer, Message, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient

from tests.stream_workers.harness import MARKER, Rig

_FATES = "consumed, applied, filtered, dead_lettered, control, gaps"


@dataclass
class DerivedRig(Rig):
    """Pipeline `orders-derived` over a topic and database of the test's own. times: how often the topics were made."""

    times: int = 1

    def environment(self, **extra: str) -> dict[str, str]:
        return super().environment(**{"HEADRACE_CATALOG": "tests.catalogs_derived", **extra})

    def command(self, *words: str) -> str:
        """A command of ours; what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", *words],
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def derive(self, pipeline: str = "orders-derived", **extra: str) -> subprocess.Popen[bytes]:
        """Start a worker of a pipeline."""
        name = f"{pipeline}-{len(self.workers)}-{uuid.uuid4().hex[:4]}"
        with (self.log_dir / f"{name}.log").open("wb") as out:
            worker = subprocess.Popen(
                [sys.executable, "-m", "cli.main", "worker", "run", pipeline, "--worker", name],
                env=self.environment(**extra),
                stdout=out,
                stderr=out,
            )
        self.workers.append(worker)
        return worker

    def close(self) -> None:
        super().close()
        mine = [name for name in self.admin.list_topics(timeout=20).topics if name.startswith(f"{self.topic}-")]
        for future in self.admin.delete_topics(mine).values() if mine else ():
            future.result()

    # -- what is asked

    def at(self, topic: str) -> list[tuple[int, ...]]:
        """Partition, next offset and counts of a derived topic, as the ledger mirrors them."""
        return [
            tuple(row)
            for row in self.query(
                f"select partition, next_offset, {_FATES} from ledger.positions"
                " where table_version like %s order by partition",
                f"{topic}@%",
            )
        ]

    def made(self, *names: str, source: str = "") -> bool:
        """Whether these topics (by suffix) stand at the end of their source."""
        ends = self.ends_of(source or self.topic)
        for name in names or ("by-product", "large", "alerts"):
            rows = self.at(f"{self.topic}-{name}")
            if {row[0]: row[1] for row in rows} != ends:
                return False
        return True

    def ends_of(self, topic: str) -> dict[int, int]:
        """Last stable offset of every partition."""
        consumer = self._reader()
        try:
            partitions = consumer.list_topics(topic, timeout=20).topics[topic].partitions
            return {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=20)[1] for p in partitions}
        finally:
            consumer.close()

    def log(self, topic: str) -> list[Message]:
        """Everything that a read_committed reader gets."""
        consumer: Consumer = self._reader()
        partitions = consumer.list_topics(topic, timeout=20).topics[topic].partitions
        consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
        found: list[Message] = []
        ended: set[int] = set()
        while len(ended) < len(partitions):
            for message in consumer.consume(10_000, 0.1):
                if message.error() is not None:
                    ended.add(message.partition() or 0)
                else:
                    found.append(message)
        consumer.close()
        return found

    def values(self, topic: str) -> list[tuple[str, dict[str, Any], Message]]:
        """Key and record of every message that is no marker, decoded with the registered schema."""
        registry = SchemaRegistryClient({"url": self.stack.registry_url})
        schema = fastavro.parse_schema(
            json.loads(registry.get_latest_version(f"{topic}-value").schema.schema_str or "")
        )
        found = []
        for message in self.log(topic):
            value = message.value()
            if value is not None:
                record = fastavro.schemaless_reader(io.BytesIO(value[5:]), schema)
                assert isinstance(record, dict)
                found.append(((message.key() or b"").decode(), record, message))
        return found

    def source_rows(self) -> duckdb.DuckDBPyConnection:
        """Table `log` of the source's good records with coordinates, read from Kafka by hand."""
        by_value = {m.value: m.order for m in self.sent.messages if m.kind == "good"}
        rows = [
            {**order, "p": m.partition(), "o": m.offset(), "ts": m.timestamp()[1]}
            for m in self.log(self.topic)
            if (order := by_value.get(m.value())) is not None
        ]
        db = duckdb.connect()
        db.register("log", pa.Table.from_pylist(rows))
        return db

    def verify(self) -> None:
        """Topics equal the recomputation, identities hold, every bad record is a dead letter once."""
        db = self.source_rows()
        kept = db.sql(
            'select "productId", "orderId", cast(round("orderAmount" * 100) as bigint), "orderTimestamp",'
            " case when quantity >= 5 then 'bulk' end, status, ts from log"
            ' where cast(round("orderAmount" * 100) as bigint) < 45000'
        ).fetchall()
        large = db.sql(
            """select "orderId", "orderTimestamp", "orderAmount", ts from log
            where "orderAmount" >= 250 and status = 'COMPLETED'"""
        ).fetchall()
        too_much = db.sql(
            'select count(*) from log where cast(round("orderAmount" * 100) as bigint) >= 45000'
        ).fetchall()
        found = [(*r.values(), m.timestamp()[1]) for _, r, m in self.values(f"{self.topic}-by-product")]
        assert Counter(found) == Counter(kept)
        found = [(*r.values(), m.timestamp()[1]) for _, r, m in self.values(f"{self.topic}-large")]
        assert Counter(found) == Counter(large)
        alerts = db.sql(
            """select concat_ws(':', ?, ?, p, o), "customerId", "orderTimestamp", quantity, ts from log
            where quantity >= 8 and status = 'FAILED'""",
            params=[f"{self.topic}-alerts", self.topic],
        ).fetchall()
        found = [(*r.values(), m.timestamp()[1]) for _, r, m in self.values(f"{self.topic}-alerts")]
        assert Counter(found) == Counter(alerts) and alerts
        for suffix, column in (("by-product", "productId"), ("large", "orderId"), ("alerts", "customerId")):
            for key, record, _ in self.values(f"{self.topic}-{suffix}"):
                assert key == record[column]
        self.verify_order(db)
        good, bad, data = len(self.sent.good), self.sent.bad(), len(self.sent.messages)
        refused = sum(bad.values())
        taken = {"by-product": len(kept), "large": len(large), "alerts": len(alerts)}
        for suffix, applied in taken.items():
            rows = self.at(f"{self.topic}-{suffix}")
            consumed, was_applied, filtered, dead, control, _ = (sum(row[k] for row in rows) for k in range(2, 8))
            assert (consumed, control) == (data + self.markers, self.markers)
            assert consumed == was_applied + filtered + dead + control
            assert was_applied == applied
            assert dead == refused + (too_much[0][0] if suffix == "by-product" else 0)
            assert good >= applied
        self.verify_letters(refused, too_much[0][0])

    def verify_order(self, db: duckdb.DuckDBPyConnection) -> None:
        """Records of one source partition and key keep their order."""
        where = dict(db.sql('select "orderId", (p, o) from log').fetchall())
        last: dict[tuple[str, int], int] = {}
        for key, record, _ in self.values(f"{self.topic}-by-product"):
            partition, offset = where[record["orderId"]]
            assert last.get((key, partition), -1) < offset
            last[key, partition] = offset

    def verify_letters(self, refused: int, too_much: int) -> None:
        """Each refused record is in the dead-letter topic once per reason, and in the ledger once per topic."""
        letters = self.log(f"{self.topic}-failed")
        heads = [texts(letter) for letter in letters]
        coordinates = [(h["headrace-partition"], h["headrace-offset"], h["headrace-reason"]) for h in heads]
        assert len(set(coordinates)) * self.times == len(coordinates) == (refused + too_much) * self.times
        assert all(h["headrace-topic"] == self.topic for h in heads)
        source = {(str(m.partition()), str(m.offset())): m for m in self.log(self.topic)}
        for head, letter in zip(heads, letters, strict=True):
            origin = source[head["headrace-partition"], head["headrace-offset"]]
            assert (letter.value(), letter.key()) == (origin.value(), origin.key())
        rows = self.query(
            'select d.table_version, d.reason, r.partition, r."offset" from ledger.dead_letters d'
            " join ledger.dead_letter_records r using (record_id)"
        )
        told = {
            (version, head["headrace-reason"], int(head["headrace-partition"]), int(head["headrace-offset"]))
            for head in heads
            for version in head["headrace-for"].split(",")
        }
        assert sorted(rows) == sorted(told)


def stop(worker: subprocess.Popen[bytes]) -> int:
    """Drain a worker; its exit code."""
    worker.send_signal(signal.SIGTERM)
    return worker.wait(30)


def texts(message: Message) -> dict[str, str]:
    """Headers as texts."""
    pairs = dict(message.headers() or [])
    return {name: value if isinstance(value, str) else (value or b"").decode() for name, value in pairs.items()}


def is_marker(message: Message) -> bool:
    """Whether it is an end-of-input marker."""
    return message.value() is None and MARKER in dict(message.headers() or [])
