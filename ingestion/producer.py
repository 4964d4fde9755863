"""A transactional producer whose every transaction carries a position: records and position commit together."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from headrace.errors import Fenced, HeadraceError, ServiceUnavailable, Terminal
from headrace.settings import Settings
from ingestion.batch import Batch, Header

_log = logging.getLogger("ingestion.kafka")
_SECONDS = 60.0  # for each answer of Kafka, its own retries included
_POSITION_SECONDS = 10.0
_FENCED = {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH}
_AWAY = {
    KafkaError._TIMED_OUT,
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._MSG_TIMED_OUT,
    KafkaError._TIMED_OUT_QUEUE,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.NOT_COORDINATOR,
    KafkaError.UNSTABLE_OFFSET_COMMIT,
    KafkaError.NETWORK_EXCEPTION,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError._RESOLVE,
}

# retry.backoff: with the default of 100 ms every send_offsets_to_transaction waits 60-90 ms for its group coordinator.
# linger: batches fill while rows are produced. delivery reports: failures alone, they also fail the commit.
OPTIONS: dict[str, Any] = {
    "partitioner": "murmur2_random",  # as Java clients do: one key, one partition, whoever produces
    "compression.type": "lz4",
    "linger.ms": 20,
    "batch.size": 1_000_000,
    "batch.num.messages": 100_000,
    "queue.buffering.max.messages": 1_000_000,
    "delivery.report.only.error": True,
    "retry.backoff.ms": 1,
    "retry.backoff.max.ms": 1,
    # What a killed process left open holds back read_committed readers for as long as this, unless it is resumed.
    "transaction.timeout.ms": 30_000,
}


@dataclass(frozen=True)
class Committed:
    """A position that Kafka holds: rows done and the largest event time among them, microseconds."""

    position: int
    max_event: int | None


class PositionedProducer:
    """Produces into one topic; the position is the group's offset of partition 0 of that topic.

    Errors: `Fenced` when another process has taken the transactional id, `ServiceUnavailable` when Kafka does not
    answer, `Terminal` for what only a person can change.
    """

    def __init__(self, settings: Settings, topic: str, transactional_id: str, group_id: str) -> None:
        self._topic = topic
        self._hangs = False
        self._consumer = Consumer(
            settings.kafka(group_id=group_id, enable_auto_commit=False, isolation_level="read_committed"), logger=_log
        )
        self._producer = Producer(settings.kafka(**OPTIONS, transactional_id=transactional_id), logger=_log)

    def close(self) -> None:
        """Leave; an open transaction is aborted by the next `initialise` or by its timeout."""
        if not self._hangs:
            self._producer.purge()
        self._consumer.close()

    def initialise(self) -> Committed | None:
        """Fence every older producer of this id, abort what it left open, and read the committed position."""
        with _explained("Kafka did not accept the producer"):
            self._producer.init_transactions(_SECONDS)
            (found,) = self._consumer.committed([TopicPartition(self._topic, 0)], _SECONDS)
        if found.offset < 0:
            return None
        try:
            max_event = json.loads(found.metadata or "{}").get("max_event")
        except (ValueError, AttributeError):
            max_event = None
        return Committed(found.offset, max_event)

    def partitions(self) -> int:
        """The topic's partition count."""
        with _explained("Kafka did not describe the topic"):
            return len(self._producer.list_topics(self._topic, _SECONDS).topics[self._topic].partitions)

    def begin(self) -> None:
        """Begin a transaction."""
        with _explained("Kafka did not begin a transaction"):
            self._producer.begin_transaction()

    def send(self, batch: Batch) -> None:
        """Hand the batch's records to the producer."""
        topic, produce = self._topic, self._producer.produce
        with _explained("Kafka did not take a record"):
            if batch.partitions is not None:
                rows = zip(batch.partitions, batch.keys, batch.values, batch.headers, strict=True)
                for partition, key, value, headers in rows:
                    self.send_one(key, value, headers, partition)
                return
            for key, value, headers in zip(batch.keys, batch.values, batch.headers, strict=True):
                try:
                    produce(topic, value, key, headers=headers)
                except BufferError:
                    self.send_one(key, value, headers, None)

    def send_one(
        self, key: str | bytes | None, value: bytes | None, headers: list[Header], partition: int | None
    ) -> None:
        """Hand one record to the producer, into `partition` or by its key."""
        by_key = -1
        while True:
            try:
                self._producer.produce(
                    self._topic, value, key, by_key if partition is None else partition, headers=headers
                )
                return
            except BufferError:  # a million records are waiting
                self._producer.poll(0.1)

    def position(self, at: Committed) -> None:
        """Make `at` part of the transaction."""
        metadata = "" if at.max_event is None else json.dumps({"max_event": at.max_event})
        offset = TopicPartition(self._topic, 0, at.position, metadata)
        group = self._consumer.consumer_group_metadata()
        with _explained("Kafka did not take the position"):
            self._within(lambda: self._producer.send_offsets_to_transaction([offset], group, _POSITION_SECONDS))

    def _within(self, call: Callable[[], None]) -> None:
        """Give up on `call` when it does not return: librdkafka ignores this call's timeout and, when the coordinator's
        connection breaks at the wrong moment, never returns (librdkafka issue 5456). What hangs is left behind."""
        raised: list[Exception] = []

        def run() -> None:
            try:
                call()
            except Exception as error:
                raised.append(error)

        thread = threading.Thread(target=run, name="position", daemon=True)
        thread.start()
        thread.join(_POSITION_SECONDS)
        if thread.is_alive():
            self._hangs = True
            raise ServiceUnavailable(
                f"Kafka did not take the position within {_POSITION_SECONDS:.0f} s; nothing is lost: run `headrace "
                "doctor`, then the ingest again"
            )
        if raised:
            raise raised[0]

    def commit(self) -> None:
        """Commit records and position together."""
        with _explained("Kafka did not confirm the commit; the next run finds out whether it was done"):
            self._producer.commit_transaction(_SECONDS)

    def abort(self) -> None:
        """Abort the transaction, as far as Kafka can be reached; what is left open is aborted by the next run."""
        if self._hangs:
            return
        try:
            self._producer.abort_transaction(5.0)
        except KafkaException as error:
            _log.info("the transaction stays open until the next run or its timeout: %s", error)


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except KafkaException as error:
        raise explain(error, what) from error


def explain(error: KafkaException, what: str) -> HeadraceError:
    """The error of ours for one of Kafka's; `what` happened."""
    cause = error.args[0]
    if cause.code() in _FENCED:
        return Fenced(f"{what}: another process has taken over; nothing of the open transaction was produced")
    if cause.code() in _AWAY or cause.retriable():
        return ServiceUnavailable(
            f"{what} ({cause.str()}); nothing is lost: run `headrace doctor`, then the ingest again"
        )
    return Terminal(f"{what} ({cause.str()}); run `headrace doctor`")
