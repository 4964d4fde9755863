"""A transactional Kafka producer whose every transaction carries a position: records and position commit together.

The position is the offset of a consumer group that has no members. Whoever comes next takes over the transactional id,
which aborts what is open and fences whoever is still alive, and then believes the group's offset.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from headrace.errors import Fenced, HeadraceError, ServiceUnavailable, Terminal
from headrace.settings import Settings

Header = tuple[str, str | bytes | None]

SECONDS = 60.0  # for each answer of Kafka, its own retries included
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


class TransactionalProducer:
    """Produces; the position is the offset of group `group_id` in partition `at` = (topic, partition).

    again: what makes the next attempt, for messages. Errors: `Fenced` when another process has taken the transactional
    id, `ServiceUnavailable` when Kafka does not answer, `Terminal` for what only a person can change.
    """

    def __init__(
        self,
        settings: Settings,
        transactional_id: str,
        group_id: str,
        at: tuple[str, int],
        *,
        again: str,
        logger: logging.Logger,
        **options: Any,
    ) -> None:
        self._at, self._again, self._log = at, again, logger
        self._hangs = False
        self._consumer = Consumer(
            settings.kafka(group_id=group_id, enable_auto_commit=False, isolation_level="read_committed"), logger=logger
        )
        self.producer = Producer(settings.kafka(**OPTIONS, transactional_id=transactional_id, **options), logger=logger)

    def close(self) -> None:
        """Leave; an open transaction is aborted by the next `take_over` or by its timeout."""
        if not self._hangs:
            self.producer.purge()
        self._consumer.close()

    def take_over(self) -> tuple[int, str] | None:
        """Fence every older producer of this id, abort what it left open; the committed position and its metadata."""
        with self.explained("Kafka did not accept the producer"):
            self.producer.init_transactions(SECONDS)
            (found,) = self._consumer.committed([TopicPartition(*self._at)], SECONDS)
        return None if found.offset < 0 else (int(found.offset), found.metadata or "")

    def begin(self) -> None:
        """Begin a transaction."""
        with self.explained("Kafka did not begin a transaction"):
            self.producer.begin_transaction()

    def produce(
        self,
        topic: str,
        key: str | bytes | None,
        value: bytes | None,
        headers: Sequence[Header],
        partition: int | None = None,
    ) -> None:
        """Hand one record to the producer, into `partition` or by its key."""
        by_key = -1
        while True:
            try:
                self.producer.produce(
                    topic, value, key, by_key if partition is None else partition, headers=list(headers)
                )
                return
            except BufferError:  # a million records are waiting
                self.producer.poll(0.1)

    def commit_offset(self, position: int, metadata: str = "") -> None:
        """Make the position part of the transaction."""
        offset = TopicPartition(*self._at, position, metadata)
        group = self._consumer.consumer_group_metadata()
        with self.explained("Kafka did not take the position"):
            self._within(lambda: self.producer.send_offsets_to_transaction([offset], group, _POSITION_SECONDS))

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
                f"Kafka did not take the position within {_POSITION_SECONDS:.0f} s; nothing is lost: {self._again}"
            )
        if raised:
            raise raised[0]

    def commit(self) -> None:
        """Commit records and position together."""
        with self.explained("Kafka did not confirm the commit; the next run finds out whether it was done"):
            self.producer.commit_transaction(SECONDS)

    def abort(self) -> None:
        """Abort the transaction, as far as Kafka can be reached; what is left open is aborted by the next take-over."""
        if self._hangs:
            return
        try:
            self.producer.abort_transaction(5.0)
        except KafkaException as error:
            self._log.info("the transaction stays open until the next run or its timeout: %s", error)

    @contextmanager
    def explained(self, what: str) -> Iterator[None]:
        """Kafka's errors as ours; `what` happened."""
        try:
            yield
        except KafkaException as error:
            raise explain(error, what, self._again) from error


def explain(error: KafkaException, what: str, again: str) -> HeadraceError:
    """The error of ours for one of Kafka's; `what` happened, `again` is what a person does next."""
    cause = error.args[0]
    if cause.code() in _FENCED:
        return Fenced(f"{what}: another process has taken over; nothing of the open transaction was produced")
    if cause.code() in _AWAY or cause.retriable():
        return ServiceUnavailable(f"{what} ({cause.str()}); nothing is lost: {again}")
    return Terminal(f"{what} ({cause.str()}); run `headrace doctor`")
