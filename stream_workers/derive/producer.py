"""The transactional producer of one shard: records, dead letters and positions of several groups commit together."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from headrace.settings import Settings
from headrace.transactions import SECONDS, Header, TransactionalProducer

_log = logging.getLogger("stream_workers.kafka")
_AGAIN = "the worker opens the shard anew; `headrace status` shows it"
_LOOK_SECONDS = 5.0


class TooLarge(Exception):
    """A record has more bytes than Kafka takes."""


class ShardProducer(TransactionalProducer):
    """Produces what shard number `shard` of `topic` brings; `groups` hold the positions.

    The transactional id is the shard's: whoever takes over fences every older owner. Errors as of the base class.
    """

    def __init__(self, settings: Settings, pipeline: str, topic: str, shard: int, groups: Sequence[str]) -> None:
        super().__init__(
            settings,
            f"headrace-{pipeline}-{shard}",
            groups[0],
            (topic, shard),
            again=_AGAIN,
            logger=_log,
        )
        self._source, self._shard = topic, shard
        # Positions of the own shard are stable after the take-over; those of others are read as last committed.
        self._groups = {
            group: Consumer(
                settings.kafka(group_id=group, enable_auto_commit=False, isolation_level="read_uncommitted"),
                logger=_log,
            )
            for group in groups
        }

    def close(self) -> None:
        """Leave; an open transaction is aborted by the next `fence` or by its timeout."""
        super().close()
        for consumer in self._groups.values():
            consumer.close()

    def fence(self) -> dict[str, tuple[int, str] | None]:
        """Take over the transactional id; then the position of each group with its metadata."""
        self.take_over()
        return {group: self.positions(group, [self._shard], SECONDS)[self._shard] for group in self._groups}

    def positions(
        self, group: str, partitions: Iterable[int], seconds: float = _LOOK_SECONDS
    ) -> dict[int, tuple[int, str] | None]:
        """Committed positions of a group in partitions of the source."""
        asked = [TopicPartition(self._source, partition) for partition in partitions]
        with self.explained(f"Kafka does not tell the offsets of group {group}"):
            found = self._groups[group].committed(asked, seconds)
            for place in found:
                if place.error is not None:
                    raise KafkaException(place.error)
        return {p.partition: None if p.offset < 0 else (int(p.offset), p.metadata or "") for p in found}

    def send(self, topic: str, keys: Sequence[str], values: Sequence[bytes], timestamps: Sequence[int]) -> None:
        """Hand records to the producer, each into its key's partition. Raises `TooLarge`."""
        produce, poll = self.producer.produce, self.producer.poll
        with self.explained("Kafka did not take a record"):
            for key, value, timestamp in zip(keys, values, timestamps, strict=True):
                while True:
                    try:
                        produce(topic, value, key, timestamp=timestamp)
                        break
                    except BufferError:  # a million records are waiting
                        poll(0.1)
                    except KafkaException as error:
                        if error.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE:
                            raise TooLarge(f"{len(value)} bytes") from error
                        raise

    def send_marker(self, topic: str, partitions: int, headers: list[Header]) -> None:
        """Hand an end-of-input marker for every partition to the producer."""
        with self.explained("Kafka did not take a marker"):
            for partition in range(partitions):
                self.produce(topic, None, None, headers, partition)

    def commit_positions(self, positions: Mapping[str, tuple[int, str]]) -> None:
        """Make the groups' positions part of the transaction."""
        with self.explained("Kafka did not take the positions"):
            for group, (offset, metadata) in positions.items():
                place = TopicPartition(self._source, self._shard, offset, metadata)
                member = self._groups[group].consumer_group_metadata()
                self._within(partial(self.producer.send_offsets_to_transaction, [place], member, SECONDS))
