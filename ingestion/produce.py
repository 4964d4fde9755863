"""Made-up orders sent to the topic, fast or at a rate, as a shop would: not from files, so without a file position."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC
from typing import Any

import numpy as np
from confluent_kafka import KafkaException, Producer

from headrace.clock import SYSTEM_CLOCK, Clock
from headrace.errors import UsageError
from headrace.settings import Settings
from ingestion import orders
from ingestion.generate import batch
from ingestion.markers import end_of_input
from ingestion.producer import OPTIONS, explain
from ingestion.provision import provision
from schemas.formats import encoder
from topology import Topic

_PER_SECOND = 5  # transactions: a record is visible to readers after about this part of a second
_SECONDS = 60.0


@dataclass(frozen=True)
class ProduceReport:
    """What was sent: all orders, the bad among them by kind (a worker will refuse each), and how long it took."""

    produced: int
    bad: dict[str, int]
    seconds: float

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.bad.items() if count)
        rate = self.produced / max(self.seconds, 1e-9)
        return f"{self.produced} orders in {self.seconds:.1f} s, {rate:.0f}/s" + (f"; bad: {kinds}" if kinds else "")


def produce(
    topic: Topic,
    settings: Settings,
    *,
    events: int,
    rate: float = 0.0,
    bad: float = 0.0,
    seed: int = 1,
    progress: Callable[[int], None] | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> ProduceReport:
    """Send `events` orders with the present as their event time, `rate` per second (0: as fast as it goes).

    bad: share of orders with something wrong that Avro can hold (`orders.JUDGED_KINDS`). An end-of-input marker follows
    in every partition. Every call sends new orders; one that is interrupted leaves out what was not committed yet.
    `progress` gets the number sent so far.
    """
    if events < 1 or rate < 0 or not 0 <= bad <= 1:
        raise UsageError("produce: events is at least 1, rate at least 0, bad between 0 and 1")
    schema = topic.shape
    if not set(orders.FIELDS) >= {field.name for field in schema.fields}:
        raise UsageError(
            f"produce: {topic.name} is not a topic of orders; use one with the schema orders/order_created.avsc"
        )
    schema_id = provision(settings, [topic]).schema_ids[topic.name]
    most = settings.transaction_records
    if rate:
        most = max(1, min(most, round(rate / _PER_SECOND)))
    began = clock.monotonic()
    counted = dict.fromkeys(orders.JUDGED_KINDS, 0)
    try:
        with closing(_Sender(topic, settings)) as sender:
            sent = 0
            while sent < events:
                count = min(most, events - sent)
                made = _now(orders.make(sent, count, clock.now().date(), seed=seed, bad=0.0), clock)
                _spoil(made, sent, bad, counted)
                values = encoder(topic.format).encode(schema, schema_id, batch(made, schema)).to_pylist()
                sent += count
                sender.send(made.columns[1], values, _micros(clock) if sent == events else None)
                if progress:
                    progress(sent)
                if rate and sent < events:
                    clock.wait(max(0.0, sent / rate - (clock.monotonic() - began)))
    except KafkaException as error:
        raise explain(error, "Kafka did not take the orders") from error
    return ProduceReport(sent, counted, round(clock.monotonic() - began, 3))


class _Sender:
    def __init__(self, topic: Topic, settings: Settings) -> None:
        self._topic = topic
        config: dict[str, Any] = settings.kafka(transactional_id=f"headrace-produce-{uuid.uuid4().hex}")
        self._producer = Producer({**config, **OPTIONS})
        self._producer.init_transactions(_SECONDS)
        self._open = False

    def send(self, keys: list[str], values: list[bytes], end: int | None) -> None:
        """One transaction; `end`: event time of the markers that follow, microseconds."""
        self._producer.begin_transaction()
        self._open = True
        for key, value in zip(keys, values, strict=True):
            self._one(value, key, [], -1)
        if end is not None:
            headers = end_of_input(end, name="produce")
            found = self._producer.list_topics(self._topic.name, _SECONDS).topics[self._topic.name]
            for partition in range(len(found.partitions)):
                self._one(None, None, headers, partition)
        self._producer.commit_transaction(_SECONDS)
        self._open = False

    def _one(self, value: bytes | None, key: str | None, headers: list[Any], partition: int) -> None:
        while True:
            try:
                self._producer.produce(self._topic.name, value, key, partition, headers=headers)
                return
            except BufferError:
                self._producer.poll(0.1)

    def close(self) -> None:
        """Abort what is open, so that readers need not wait for its timeout."""
        if self._open:
            try:
                self._producer.abort_transaction(5.0)
            except KafkaException:
                self._producer.purge()


def _now(made: orders.Orders, clock: Clock) -> orders.Orders:
    """The orders, all at this moment."""
    moment = clock.now().astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    made.columns[5][:] = [moment] * len(made)
    return made


def _spoil(made: orders.Orders, first: int, bad: float, counted: dict[str, int]) -> None:
    """Make the orders bad at which first * bad passes a whole number: exact over any cut into batches."""
    kinds = list(orders.JUDGED_KINDS)
    numbers = np.floor(np.arange(first, first + len(made) + 1) * bad)
    for row in np.flatnonzero(np.diff(numbers)).tolist():
        kind = kinds[int(numbers[row]) % len(kinds)]
        orders.spoil(made.columns, row, kind)
        counted[kind] += 1


def _micros(clock: Clock) -> int:
    return int(clock.now().timestamp() * 1_000_000)
