"""What tests of ingestion share: a topic of their own, small files, and a reader that shares no code with ingestion."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from headrace.settings import Settings, load
from topology import EventTime, FileSource, Topic

HEADER = "orderId,customerId,productId,quantity,orderAmount,orderTimestamp,status"


@dataclass(frozen=True)
class Site:
    """A landing folder, its two sources, their topic, and the settings of a test with a ledger of its own."""

    settings: Settings
    landing: Path
    topic: Topic
    csv: FileSource
    json: FileSource

    def write(self, name: str, *lines: str | bytes, end: bytes = b"\n") -> Path:
        """A file in the landing folder."""
        path = self.landing / name
        data = [line.encode() if isinstance(line, str) else line for line in lines]
        path.write_bytes(b"".join(line + end for line in data))
        return path

    def with_settings(self, **changes: Any) -> Site:
        return replace(self, settings=self.settings.model_copy(update=changes))


@pytest.fixture
def site(database: str, topic_name: str, tmp_path: Path) -> Site:
    topic = Topic(
        topic_name,
        schema="orders/order_created.avsc",
        key="customerId",
        event_time=EventTime("orderTimestamp", "iso8601"),
        partitions=3,
        not_before="2026-01-01",
    )
    settings = load().model_copy(update={"landing": tmp_path, "transaction_records": 50})
    return Site(
        settings,
        tmp_path,
        topic,
        FileSource("test_csv", topic=topic, path="*.csv", format="csv"),
        FileSource("test_json", topic=topic, path="*.jsonl", format="json"),
    )


@pytest.fixture
def read(stack: object) -> Iterator[Callable[[Site], list[Message]]]:
    """Everything committed in the site's topic, partition by partition."""
    readers: list[Consumer] = []

    def everything(site: Site) -> list[Message]:
        reader = Consumer(
            site.settings.kafka(
                group_id="test-reader",
                isolation_level="read_committed",
                enable_auto_commit=False,
                enable_partition_eof=True,
                auto_offset_reset="earliest",
            )
        )
        readers.append(reader)
        partitions = reader.list_topics(site.topic.name, 10).topics[site.topic.name].partitions
        reader.assign([TopicPartition(site.topic.name, number, 0) for number in partitions])
        left, found = set(partitions), []
        while left:
            for message in reader.consume(1000, 1.0):
                error = message.error()
                if error is None:
                    found.append(message)
                else:
                    assert error.code() == KafkaError._PARTITION_EOF, error
                    left.discard(message.partition())
        return sorted(found, key=lambda message: (message.partition(), message.offset()))

    yield everything
    for reader in readers:
        reader.close()


def headers(message: Message) -> dict[str, bytes]:
    """A record's headers."""
    found = message.headers() or ()
    pairs = found.items() if isinstance(found, dict) else found
    return {name: value for name, value in pairs if isinstance(value, bytes)}


def order(number: int, **changes: str) -> str:
    """A CSV line."""
    values = {
        "orderId": f"o{number}",
        "customerId": f"c{number % 7}",
        "productId": "p1",
        "quantity": "2",
        "orderAmount": "9.50",
        "orderTimestamp": f"2026-01-02T{number // 3600 % 24:02d}:{number // 60 % 60:02d}:{number % 60:02d}Z",
        "status": "COMPLETED",
    }
    return ",".join((values | changes).values())
