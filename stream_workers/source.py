"""Reading one partition of a topic: a consumer of its own, assigned, at a position the ledger decides.

One consumer per shard input keeps batches of one shard without sorting messages by partition, and lets a shard be
dropped with everything prefetched for it by closing its consumer.
"""

from __future__ import annotations

from contextlib import suppress
from operator import itemgetter
from typing import Any

import numpy as np
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from headrace.errors import ServiceUnavailable
from headrace.settings import Settings
from stream_workers.batch import EVENT_TIME_HEADER, MARKER_HEADER, Batch, Envelope, Marker

_GONE = {  # the shard is opened anew, and its checks say what became of the position
    KafkaError._AUTO_OFFSET_RESET,
    KafkaError._LOG_TRUNCATION,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError.UNKNOWN_TOPIC_ID,
    KafkaError.INCONSISTENT_TOPIC_ID,
}


def group_id(pipeline: str) -> str:
    """Name of a pipeline's consumer group: where tools look for its offsets."""
    return f"headrace-{pipeline}"


def consumer_config(settings: Settings, group: str) -> dict[str, Any]:
    """Settings of every consumer that feeds tables."""
    return settings.kafka(
        group_id=group,
        isolation_level="read_committed",
        enable_auto_commit=False,
        enable_auto_offset_store=False,
        enable_partition_eof=True,
        auto_offset_reset="error",  # never silently somewhere else
        check_crcs=False,
        # Fetch ahead about one batch: the broker's work overlaps with ours, memory stays bounded per shard.
        queued_min_messages=100_000,
        queued_max_messages_kbytes=24_576,
        fetch_message_max_bytes=4_194_304,
        fetch_queue_backoff_ms=5,
        fetch_wait_max_ms=100,
        statistics_interval_ms=0,
    )


class Source:
    """One partition, read from `next_offset` on. Used by one thread only, except `note`."""

    def __init__(
        self,
        settings: Settings,
        pipeline: str,
        shard: int,
        topic: str,
        partition: int,
        next_offset: int,
        leader_epoch: int,
    ) -> None:
        self.shard, self.topic, self.partition = shard, topic, partition
        self.next_offset = next_offset
        self.leader_epoch = leader_epoch
        self._committed: int | None = None
        self._consumer = Consumer(consumer_config(settings, group_id(pipeline)))
        start = TopicPartition(topic, partition, next_offset)
        if leader_epoch >= 0:
            start = TopicPartition(topic, partition, next_offset, leader_epoch=leader_epoch)
        self._consumer.assign([start])

    def poll(self, records: int, seconds: float) -> Batch | None:
        """The next records, at most `records`; None when there is nothing new within `seconds`."""
        messages = self._consumer.consume(records, seconds)
        level = False
        end = self.next_offset
        if any(map(Message.error, messages)):
            for message in messages:
                error = message.error()
                if error is not None:
                    self._judge(error, message)
                    end = max(end, _offset(message))
            level = messages[-1].error() is not None
            messages = [message for message in messages if message.error() is None]
        if messages:
            end = max(end, _offset(messages[-1]) + 1)
        if end == self.next_offset and not level:
            return None
        batch = self._columns(messages, end, level)
        self.next_offset, self.leader_epoch = end, batch.leader_epoch
        return batch

    def _columns(self, messages: list[Message], end: int, level: bool) -> Batch:
        count = len(messages)
        payloads: list[bytes | None] = list(map(Message.value, messages))
        first = _offset(messages[0]) if messages else end
        if messages and _offset(messages[-1]) - first + 1 == count:
            offsets = np.arange(first, first + count, dtype=np.int64)
        else:
            offsets = np.fromiter(map(Message.offset, messages), np.int64, count)
        timestamps = np.fromiter(map(itemgetter(1), map(Message.timestamp, messages)), np.int64, count)
        epoch = messages[-1].leader_epoch() if messages else None

        def envelope(index: int) -> Envelope:
            message = messages[index]
            return Envelope(message.key(), _texts(message))

        return Batch(
            shard=self.shard,
            topic=self.topic,
            partition=self.partition,
            from_offset=self.next_offset,
            to_offset=end,
            leader_epoch=self.leader_epoch if epoch is None else max(epoch, self.leader_epoch),
            level=level,
            payloads=payloads,
            offsets=offsets,
            timestamps=timestamps,
            envelope=envelope,
            markers=_markers(payloads, messages) if None in payloads else (),
        )

    def _judge(self, error: KafkaError, message: Message) -> None:
        """End of partition is news, a lost offset or topic an error; the rest passes by itself."""
        where = f"{self.topic}[{self.partition}]@{self.next_offset}"
        if error.code() == KafkaError._PARTITION_EOF:
            return
        if error.code() in _GONE:
            raise OffsetLost(f"{where}: {error.str()}")
        raise ServiceUnavailable(f"{where}: {error.str()}; nothing was lost; reading goes on when Kafka answers")

    def commit(self, next_offset: int) -> None:
        """Tell Kafka's group where the ledger stands: a hint for lag tools, never read back as a position."""
        if next_offset != self._committed:
            self._consumer.commit(offsets=[TopicPartition(self.topic, self.partition, next_offset)], asynchronous=True)
            self._committed = next_offset

    def close(self, next_offset: int) -> None:
        """Leave, telling the group where the ledger stands (-1: unknown); what was prefetched is thrown away."""
        if next_offset >= 0:
            with suppress(KafkaException):  # a hint, not worth an error
                self._consumer.commit(
                    offsets=[TopicPartition(self.topic, self.partition, next_offset)], asynchronous=False
                )
        self._consumer.close()


class OffsetLost(ServiceUnavailable):
    """The position cannot be read where it was; the shard is opened anew, and its checks name the cause."""


def _offset(message: Message) -> int:
    offset = message.offset()
    assert offset is not None  # only messages that were never produced have none
    return offset


def _texts(message: Message) -> dict[str, str]:
    headers = message.headers() or []
    pairs = headers.items() if isinstance(headers, dict) else headers
    return {
        name: value if isinstance(value, str) else (value or b"").decode("utf-8", "replace") for name, value in pairs
    }


def _markers(payloads: list[bytes | None], messages: list[Message]) -> tuple[Marker, ...]:
    found = []
    for index, payload, message in zip(range(len(payloads)), payloads, messages, strict=True):
        if payload is None:
            headers = _texts(message)
            if MARKER_HEADER in headers:
                text = headers.get(EVENT_TIME_HEADER, "")
                found.append(Marker(index, int(text) if text.lstrip("-").isdecimal() else None))
    return tuple(found)
