"""Reading one partition of a topic: a consumer of its own, assigned, at a position the ledger decides.

One consumer per shard input keeps batches of one shard without sorting messages by partition, and lets a shard be
dropped with everything prefetched for it by closing its consumer.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from headrace.deadline import Deadline
from headrace.errors import ServiceUnavailable
from headrace.settings import Settings
from stream_workers.batch import Batch
from stream_workers.columns import Columns, offset_of

_SLICE = 5_000  # messages held as Python objects at a time
_FULL_SLICE_SECONDS = 0.1
_GROW_SECONDS = 0.5
_COMMIT_AGAIN_SECONDS = 12 * 3600.0  # Kafka forgets the offsets of a group after a week without a commit (rule B7)

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
        # Fetch a little ahead: enough for the broker to work beside us, little enough to stay in the processor's cache
        # (25,000 records and half a megabyte cost a quarter less than 100,000 and four; docs/benchmarks.md).
        queued_min_messages=25_000,
        queued_max_messages_kbytes=16_384,
        fetch_message_max_bytes=524_288,
        fetch_queue_backoff_ms=5,
        fetch_wait_max_ms=100,
        statistics_interval_ms=0,
    )


class Source:
    """One partition, read from `next_offset` on. Used by the prefetch thread alone."""

    def __init__(
        self,
        settings: Settings,
        pipeline: str,
        shard: int,
        topic: str,
        partition: int,
        next_offset: int,
        leader_epoch: int,
        born: str,
    ) -> None:
        self.shard, self.topic, self.partition = shard, topic, partition
        self.next_offset = next_offset
        self.leader_epoch = leader_epoch
        self._born = born
        self._committed: int | None = None
        self._commit_again = Deadline.after(_COMMIT_AGAIN_SECONDS)
        self._consumer = Consumer(consumer_config(settings, group_id(pipeline)))
        start = TopicPartition(topic, partition, next_offset)
        if leader_epoch >= 0:
            start = TopicPartition(topic, partition, next_offset, leader_epoch=leader_epoch)
        self._consumer.assign([start])

    def poll(self, records: int, seconds: float) -> Batch | None:
        """The next records, at most `records`; None when there is nothing new within `seconds`.

        While slices come full there is more to read, and the batch grows for at most half a second.
        """
        columns, level = Columns(), False
        until = Deadline.after(_GROW_SECONDS)
        end = self.next_offset
        while len(columns) < records:
            wanted = min(_SLICE, records - len(columns))
            messages = self._consumer.consume(wanted, seconds)
            full, level = len(messages) == wanted, level and not messages
            if any(map(Message.error, messages)):
                end = max(end, *(self._end(message) for message in messages if message.error() is not None))
                level = messages[-1].error() is not None
                messages = [message for message in messages if message.error() is None]
            columns.add(messages)
            del messages
            if not full or until.passed():
                break
            seconds = max(seconds, _FULL_SLICE_SECONDS)
        end = max(end, columns.next_offset or 0)
        if end == self.next_offset and not level:
            return None
        return self._batch(columns, end, level)

    def _batch(self, columns: Columns, end: int, level: bool) -> Batch:
        start, self.next_offset = self.next_offset, end
        self.leader_epoch = max(self.leader_epoch, columns.leader_epoch if columns.leader_epoch is not None else -1)
        return Batch(
            shard=self.shard,
            topic=self.topic,
            partition=self.partition,
            from_offset=start,
            to_offset=end,
            leader_epoch=self.leader_epoch,
            level=level,
            payloads=columns.payloads,
            offsets=columns.offsets,
            timestamps=columns.timestamps,
            envelope=columns.envelope,
            markers=columns.markers(),
        )

    def _end(self, message: Message) -> int:
        """The end offset that an end-of-partition event carries; a lost offset or topic is an error."""
        error = message.error()
        assert error is not None
        where = f"{self.topic}[{self.partition}]@{self.next_offset}"
        if error.code() == KafkaError._PARTITION_EOF:
            return offset_of(message)
        if error.code() in _GONE:
            raise OffsetLost(f"{where}: {error.str()}")
        raise ServiceUnavailable(f"{where}: {error.str()}; nothing was lost; reading goes on when Kafka answers")

    def commit(self, next_offset: int) -> None:
        """Tell Kafka's group where the ledger stands: a hint for lag tools, never read back as a position."""
        if next_offset != self._committed or self._commit_again.passed():
            self._consumer.commit(offsets=[self._hint(next_offset)], asynchronous=True)
            self._committed = next_offset
            self._commit_again = Deadline.after(_COMMIT_AGAIN_SECONDS)

    def close(self, next_offset: int) -> None:
        """Leave, telling the group where the ledger stands (-1: unknown); what was prefetched is thrown away."""
        if next_offset >= 0:
            with suppress(KafkaException):  # a hint, not worth an error
                self._consumer.commit(offsets=[self._hint(next_offset)], asynchronous=False)
        self._consumer.close()

    def _hint(self, next_offset: int) -> TopicPartition:
        return TopicPartition(self.topic, self.partition, next_offset, self._born)


class OffsetLost(ServiceUnavailable):
    """The position cannot be read where it was; the shard is opened anew, and its checks name the cause."""
