"""Topics full of orders and a large CSV file: made once, kept, and recognised by a manifest on the next run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as parquet
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from benchmarks import orders
from headrace.deadline import Deadline
from headrace.errors import ServiceUnavailable
from headrace.settings import settings
from ingestion.provision import provision
from schemas import avro
from schemas.codec import Encoder
from stack.home import Home, read_json, write_private
from stream_workers.log import LogAdmin, TopicMissing
from topology import Topic

Say = Callable[[str], None]

_SECONDS = 60.0
_LOADING = {
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
}
_IN_FLIGHT = 400_000
_OPTIONS = {
    "partitioner": "murmur2_random",
    "enable.idempotence": True,
    "compression.type": "lz4",
    "linger.ms": 50,
    "batch.size": 1_000_000,
    "batch.num.messages": 10_000,
    "queue.buffering.max.messages": 1_000_000,
    "queue.buffering.max.kbytes": 1_048_576,
    "delivery.report.only.error": True,
}


@dataclass(frozen=True)
class Manifest:
    """What a kept topic or file holds. ends: last offset of each partition; empty for a file."""

    name: str
    version: int
    records: int
    schema: str
    topic_id: str
    ends: tuple[int, ...]

    @property
    def expected(self) -> str:
        """Name of the file with the exact result."""
        return f"{self.name}.expected.parquet"


def filled(home: Home, topic: Topic, records: int, say: Say) -> pa.Table:
    """Make `topic` hold exactly `records` orders; returns the exact sums (see `orders.Expected.table`)."""
    schema = topic.shape
    folder = home.folder("data")
    known = _known(folder, topic.name)
    if known and known == _manifest(topic.name, records, schema.text) and known.ends:
        provision(settings(), [topic])  # its dead-letter topic too
        return parquet.read_table(folder / known.expected)
    (folder / f"{topic.name}.json").unlink(missing_ok=True)
    remove(topic.name)
    schema_id = provision(settings(), [topic]).schema_ids[topic.name]
    expected = _produce(topic, records, schema, schema_id, say)
    manifest = _manifest(topic.name, records, schema.text)
    if sum(manifest.ends) != records:
        raise ServiceUnavailable(
            f"{topic.name} holds {sum(manifest.ends)} of {records} records; run `make bench` again"
        )
    _keep(folder, manifest, expected)
    return expected


def _produce(topic: Topic, records: int, schema: avro.AvroSchema, schema_id: int, say: Say) -> pa.Table:
    producer, encoder, began = Producer(settings().kafka() | _OPTIONS), Encoder(), time.monotonic()
    expected = orders.Expected(records, topic.partitions)
    done = 0
    for chunk in orders.chunks(records, topic.partitions, schema.arrow):
        expected.add(chunk)
        values = encoder.encode(schema, schema_id, chunk.batch).to_pylist()
        keys = chunk.batch.column(topic.key).to_pylist()
        while len(producer) > _IN_FLIGHT:
            producer.poll(0.05)
        producer.produce_batch(topic.name, [{"key": k, "value": v} for k, v in zip(keys, values, strict=True)])
        done += len(values)
        if done % 1_000_000 == 0:
            say(f"{topic.name}: {done:,} of {records:,} records, {done / (time.monotonic() - began):,.0f}/s")
    if producer.flush(_SECONDS):
        raise ServiceUnavailable(f"Kafka did not take all records of {topic.name}; run `headrace doctor`, then again")
    return expected.table()


def csv_file(home: Home, name: str, records: int, topic: Topic, say: Say) -> pa.Table:
    """Make the landing file `name` with `records` orders; returns the exact sums."""
    schema = topic.shape
    folder, path = home.folder("data"), home.folder("landing") / name
    manifest = Manifest(name, orders.VERSION, records, schema.text, "", ())
    if path.is_file() and _known(folder, name) == manifest:
        return parquet.read_table(folder / manifest.expected)
    say(f"{name}: writing {records:,} rows")
    expected = orders.Expected(records, topic.partitions)
    part = path.with_suffix(".part")
    with arrow_csv.CSVWriter(part, schema.arrow, write_options=arrow_csv.WriteOptions(quoting_style="none")) as writer:
        for chunk in orders.chunks(records, topic.partitions, schema.arrow):
            expected.add(chunk)
            writer.write_batch(chunk.batch)
    part.replace(path)
    _keep(folder, manifest, expected.table())
    return expected.table()


def remove(topic: str) -> None:
    """Delete a topic, if it is there, and wait until it is gone."""
    admin, log = AdminClient({**settings().kafka(), "log_level": 0}), LogAdmin(settings())
    try:
        admin.delete_topics([topic], operation_timeout=_SECONDS)[topic].result(_SECONDS)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise
        return
    for _ in range(200):
        try:
            log.describe(topic)
        except TopicMissing:
            return
        time.sleep(0.05)
    raise ServiceUnavailable(f"Kafka did not delete {topic} within 10 s; run `make bench` again")


def forget(groups: Sequence[str]) -> None:
    """Delete consumer groups: a fresh ledger behind a group's offsets would be taken for a restored one."""
    admin, deadline = AdminClient({**settings().kafka(), "log_level": 0}), Deadline.after(_SECONDS)
    left = list(groups)
    while left:
        answers = admin.delete_consumer_groups(left, request_timeout=_SECONDS)
        left = [group for group, answer in answers.items() if not _gone(answer)]
        if left and deadline.passed():
            raise ServiceUnavailable(f"Kafka did not delete the groups {', '.join(left)}; run `make bench` again")


def _gone(answer: Future[None]) -> bool:
    """Whether a group has been deleted; not while a broker that just started still reads its groups."""
    try:
        answer.result()
    except KafkaException as error:
        cause = error.args[0]
        if cause.code() in _LOADING:
            time.sleep(0.1)
            return False
        if cause.code() != KafkaError.GROUP_ID_NOT_FOUND:
            raise
    return True


def _manifest(name: str, records: int, schema: str) -> Manifest:
    try:
        log = LogAdmin(settings()).describe(name)
    except TopicMissing:
        return Manifest(name, orders.VERSION, records, schema, "", ())
    ends = tuple(log.end[partition] for partition in range(log.partitions))
    return Manifest(name, orders.VERSION, records, schema, log.topic_id, ends)


def _known(folder: Path, name: str) -> Manifest | None:
    found = read_json(folder / f"{name}.json")
    try:
        return Manifest(**{**found, "ends": tuple(found["ends"])})
    except (KeyError, TypeError):
        return None


def _keep(folder: Path, manifest: Manifest, expected: pa.Table) -> None:
    parquet.write_table(expected, folder / manifest.expected)
    write_private(folder / f"{manifest.name}.json", json.dumps(asdict(manifest), indent=1))
