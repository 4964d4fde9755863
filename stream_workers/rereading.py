"""Records read again by their offsets: bounded, read committed, and each of them found or named as missing.

A consumer of its own is assigned where the next record is wanted; it commits nothing and belongs to no group. What
lies between two wanted offsets is read through when that is little, and jumped over when it is much.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from headrace.clock import SYSTEM_CLOCK, Clock
from headrace.deadline import Deadline
from headrace.errors import OffsetError, ServiceUnavailable, TopicRecreated
from headrace.settings import Settings
from ledger.left_out import Record
from stream_workers.batch import moment_of
from stream_workers.columns import Columns, offset_of
from stream_workers.log import LogAdmin, LogState
from stream_workers.source import consumer_config

_GROUP = "headrace-reread"  # librdkafka wants a name; nothing is committed under it
_JUMP = 10_000  # offsets that are read through sooner than a new fetch is begun: a tenth of a second or less
_SLICE = 1_000  # messages held as Python objects at a time
_POLL_SECONDS = 0.5
_SILENT_SECONDS = 30.0


@dataclass(frozen=True)
class Log:
    """The partition of one topic, which is not the same when it was deleted and made again."""

    topic: str
    topic_id: str
    partition: int


@dataclass(frozen=True)
class Part:
    """Some of the records asked for, ascending, and offsets before the last one of them that are not there."""

    records: Sequence[Record]
    missing: Sequence[int]


def identified(kafka: LogAdmin, topic: str, topic_id: str) -> LogState:
    """The topic's state now; `TopicRecreated` when it is not the one that is known by this id."""
    found = kafka.describe(topic)
    if found.topic_id != topic_id:
        raise TopicRecreated(
            f"{topic} was deleted and created again (id {topic_id}, now {found.topic_id}): the records that are asked"
            " for are gone with the old one; nothing more was done; `headrace status` shows its pipelines"
        )
    return found


def deleted(log: LogState, offsets: Mapping[int, Sequence[int]]) -> dict[int, list[int]]:
    """Of these offsets by partition those that the log does not have any more."""
    found = {p: [o for o in some if not log.low.get(p, 0) <= o < log.end.get(p, 0)] for p, some in offsets.items()}
    return {partition: some for partition, some in found.items() if some}


def reread(
    settings: Settings, kafka: LogAdmin, log: Log, offsets: Sequence[int], at_once: int, clock: Clock = SYSTEM_CLOCK
) -> Iterator[Part]:
    """Read these ascending offsets, in parts of some `at_once` records and fewer than twice as many.

    Raises `TopicRecreated`, `OffsetError` when the log was cut while it was read, or `ServiceUnavailable`.
    """
    with closing(Consumer(consumer_config(settings, _GROUP))) as consumer:
        reading = _Reading(consumer, log, deque(offsets))
        while reading.wanted:
            part = reading.part(at_once, clock)
            identified(kafka, log.topic, log.topic_id)  # after they were read: they are of the topic that was meant
            yield part


class _Reading:
    def __init__(self, consumer: Consumer, log: Log, wanted: deque[int]) -> None:
        self._consumer, self._log, self.wanted = consumer, log, wanted
        self._position: int | None = None

    def part(self, at_once: int, clock: Clock) -> Part:
        columns, missing = Columns(), list[int]()
        silent = Deadline.after(_SILENT_SECONDS, clock)
        while self.wanted and len(columns) < at_once:
            self._jump()
            messages = self._consumer.consume(min(_SLICE, at_once), _POLL_SECONDS)
            if messages:
                silent = Deadline.after(_SILENT_SECONDS, clock)
            elif silent.passed():
                raise ServiceUnavailable(
                    f"{self._where()} does not arrive for {_SILENT_SECONDS:g} s; what was asked for before stays; type"
                    " the command again when Kafka answers: `headrace doctor`"
                )
            columns.add([m for m in messages if self._wants(m, missing)])
        records = [
            Record(offset, payload, *_envelope(columns, index), moment_of(stamp))
            for index, (offset, payload, stamp) in enumerate(
                zip(columns.offsets.tolist(), columns.payloads, columns.timestamps.tolist(), strict=True)
            )
        ]
        return Part(records, missing)

    def _jump(self) -> None:
        """Begin at the next wanted offset where it is far from where the consumer is."""
        ahead = self.wanted[0]
        if self._position is None or ahead - self._position > _JUMP:
            self._consumer.assign([TopicPartition(self._log.topic, self._log.partition, ahead)])
            self._position = ahead

    def _wants(self, message: Message, missing: list[int]) -> bool:
        """Whether a message is one of those; notes what is missing before it."""
        error = message.error()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:
            if error.code() == KafkaError._AUTO_OFFSET_RESET:
                raise OffsetError(
                    f"{self._where()} was deleted while the log was read; what was asked for before stays; type the"
                    " command again: it says what is gone"
                )
            raise ServiceUnavailable(f"{self._where()}: {error.str()}; type the command again when Kafka answers")
        offset = offset_of(message)
        self._position = offset
        while self.wanted and self.wanted[0] < offset:
            missing.append(self.wanted.popleft())
        if error is not None or not self.wanted or self.wanted[0] != offset:
            return False
        self.wanted.popleft()
        return True

    def _where(self) -> str:
        return f"{self._log.topic}[{self._log.partition}]@{self.wanted[0] if self.wanted else self._position}"


def _envelope(columns: Columns, index: int) -> tuple[bytes | None, dict[str, str]]:
    found = columns.envelope(index)
    return found.key, found.headers
