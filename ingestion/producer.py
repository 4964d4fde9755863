"""The producer of ingestion: one topic, and in every transaction how far the work has come."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass

from confluent_kafka import KafkaException

from headrace import transactions
from headrace.errors import HeadraceError
from headrace.settings import Settings
from headrace.transactions import OPTIONS, SECONDS, Header, TransactionalProducer
from ingestion.batch import Batch

__all__ = ["OPTIONS", "Committed", "PositionedProducer", "explain"]

_log = logging.getLogger("ingestion.kafka")
_AGAIN = "run `headrace doctor`, then the ingest again"


@dataclass(frozen=True)
class Committed:
    """A position that Kafka holds: rows done and the largest event time among them, microseconds."""

    position: int
    max_event: int | None


class PositionedProducer(TransactionalProducer):
    """Produces into one topic; the position is the group's offset of partition 0 of that topic."""

    def __init__(self, settings: Settings, topic: str, transactional_id: str, group_id: str) -> None:
        super().__init__(settings, transactional_id, group_id, (topic, 0), again=_AGAIN, logger=_log)
        self._topic = topic

    def initialise(self) -> Committed | None:
        """Fence every older producer of this id, abort what it left open, and read the committed position."""
        found = self.take_over()
        if found is None:
            return None
        try:
            max_event = json.loads(found[1] or "{}").get("max_event")
        except (ValueError, AttributeError):
            max_event = None
        return Committed(found[0], max_event)

    def partitions(self) -> int:
        """The topic's partition count."""
        with self.explained("Kafka did not describe the topic"):
            return len(self.producer.list_topics(self._topic, SECONDS).topics[self._topic].partitions)

    def send(self, batch: Batch) -> None:
        """Hand the batch's records to the producer."""
        topic, hand = self._topic, self.producer.produce
        with self.explained("Kafka did not take a record"):
            if batch.partitions is not None:
                rows = zip(batch.partitions, batch.keys, batch.values, batch.headers, strict=True)
                for partition, key, value, headers in rows:
                    self.send_one(key, value, headers, partition)
                return
            for key, value, headers in zip(batch.keys, batch.values, batch.headers, strict=True):
                try:
                    hand(topic, value, key, headers=headers)
                except BufferError:
                    self.send_one(key, value, headers, None)

    def send_one(
        self, key: str | bytes | None, value: bytes | None, headers: list[Header], partition: int | None
    ) -> None:
        """Hand one record to the producer, into `partition` or by its key."""
        self.produce(self._topic, key, value, headers, partition)

    def position(self, at: Committed) -> None:
        """Make `at` part of the transaction."""
        metadata = "" if at.max_event is None else json.dumps({"max_event": at.max_event})
        self.commit_offset(at.position, metadata)


def explain(error: KafkaException, what: str) -> HeadraceError:
    """The error of ours for one of Kafka's; `what` happened."""
    return transactions.explain(error, what, _AGAIN)
