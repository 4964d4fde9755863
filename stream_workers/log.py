"""What Kafka says of a topic: its identity and how far each partition reaches."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from headrace.deadline import Deadline
from headrace.errors import ServiceUnavailable, Terminal
from headrace.settings import Settings

_TIMEOUT = 5.0
_AGAIN = 0.1
_NO_COORDINATOR = {
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
}
_EARLIEST = OffsetSpec.earliest()  # type: ignore[no-untyped-call]  # the client's own annotations are incomplete
_LATEST = OffsetSpec.latest()  # type: ignore[no-untyped-call]


class TopicMissing(Terminal):
    """The topic does not exist."""


@dataclass(frozen=True)
class LogState:
    """Identity of a topic and, per partition, the first offset still kept and the last stable offset."""

    topic: str
    topic_id: str
    low: dict[int, int]
    end: dict[int, int]

    @property
    def partitions(self) -> int:
        """How many partitions the topic has."""
        return len(self.low)


class LogAdmin:
    """Questions to the broker; every answer is awaited for at most five seconds."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._admin = AdminClient(settings.kafka())

    def describe(self, topic: str) -> LogState:
        """State of a topic now; `TopicMissing`, or `ServiceUnavailable` when Kafka does not answer."""
        try:
            described = self._admin.describe_topics(TopicCollection([topic]), request_timeout=_TIMEOUT)[topic].result()
            parts = [TopicPartition(topic, info.id) for info in described.partitions]
            edges = []
            for spec in (_EARLIEST, _LATEST):
                answers = self._admin.list_offsets(
                    dict.fromkeys(parts, spec), isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=_TIMEOUT
                )
                edges.append({part.partition: answer.result().offset for part, answer in answers.items()})
        except KafkaException as error:
            if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise TopicMissing(
                    f"topic {topic} does not exist; nothing was changed; run `headrace provision`"
                ) from error
            raise ServiceUnavailable(
                f"Kafka does not answer about {topic}: {error.args[0].str()}; run `headrace doctor`"
            ) from error
        return LogState(topic, str(described.topic_id), edges[0], edges[1])

    def committed(self, group: str, topic: str, partition: int) -> tuple[int, str] | None:
        """Offset of a group in a partition with its metadata, None when it has none.

        Asked by a consumer of the group: librdkafka's admin client ends the process (SIGSEGV) when a broker answers
        that it is not the coordinator, as one does that has just started. Such a broker is asked again.
        """
        deadline = Deadline.after(_TIMEOUT)
        with closing(Consumer(self._settings.kafka(group_id=group, enable_auto_commit=False))) as consumer:
            while True:
                try:
                    (found,) = consumer.committed([TopicPartition(topic, partition)], timeout=deadline.remaining())
                    if found.error is not None:
                        raise KafkaException(found.error)
                    return (int(found.offset), found.metadata or "") if found.offset >= 0 else None
                except KafkaException as error:
                    if error.args[0].code() not in _NO_COORDINATOR or deadline.passed():
                        raise ServiceUnavailable(
                            f"Kafka does not answer about group {group}: {error.args[0].str()}"
                        ) from error
                deadline.clock.wait(_AGAIN)
