"""An independent look at a topic: every delivered record, counted by a read_committed reader of its own.

Shares no code with ingestion or workers, so that a mistake there cannot hide itself here. Records that carry no file
and are not the demo's own are kept: somebody produced them by hand, and the recomputation has to know them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

MARKER = "headrace-marker"
_OURS = {"file", "broken"}  # headers of records out of files and of the demo's own
_AT_ONCE = 10_000


@dataclass(frozen=True)
class Partition:
    """One partition: its first and end offset, data records and markers delivered in between."""

    partition: int
    first: int
    end: int
    data: int
    markers: int


@dataclass(frozen=True)
class Foreign:
    """A record that came neither from a file nor from the demo."""

    partition: int
    offset: int
    value: bytes | None


@dataclass(frozen=True)
class Recount:
    """What the log holds."""

    partitions: tuple[Partition, ...]
    foreign: tuple[Foreign, ...] = ()
    new: int = 0  # data records from the offsets on that the caller gave

    @property
    def data(self) -> int:
        """Data records; end-of-input markers are not counted."""
        return sum(partition.data for partition in self.partitions)


def ends(config: Mapping[str, Any], topic: str, *, patience: float = 30.0) -> dict[int, tuple[int, int]]:
    """First and end offset of each partition, as a read_committed reader sees them.

    A topic made a moment ago may have no leaders yet: asked again for `patience` seconds, then the `KafkaException`.
    """
    reader = _reader(config)
    began = time.monotonic()
    try:
        while True:
            try:
                partitions = reader.list_topics(topic, timeout=15).topics[topic].partitions
                places = [TopicPartition(topic, number) for number in sorted(partitions)]
                found = {place.partition: reader.get_watermark_offsets(place, timeout=15) for place in places}
                return {number: bounds for number, bounds in found.items() if bounds is not None}
            except KafkaException:
                if time.monotonic() - began > patience:
                    raise
                time.sleep(0.1)
    finally:
        reader.close()


def recount(
    config: Mapping[str, Any], topic: str, since: Mapping[int, int] | None = None, *, patience: float = 60.0
) -> Recount:
    """Read the topic to its present end; data records at offsets of `since` and later count as new.

    Raises `TimeoutError` when nothing comes for `patience` seconds.
    """
    bounds = ends(config, topic)
    data, markers = dict.fromkeys(bounds, 0), dict.fromkeys(bounds, 0)
    start, new = since or {}, 0
    foreign: list[Foreign] = []
    for message in _delivered(config, topic, bounds, patience):
        number, offset = _place(message)
        headers, value = dict(message.headers() or ()), message.value()
        if value is None and MARKER in headers:
            markers[number] += 1
            continue
        data[number] += 1
        new += offset >= start.get(number, 0)
        if not _OURS & headers.keys():
            foreign.append(Foreign(number, offset, value))
    partitions = (Partition(n, low, high, data[n], markers[n]) for n, (low, high) in bounds.items())
    return Recount(tuple(partitions), tuple(foreign), new)


def _delivered(
    config: Mapping[str, Any], topic: str, bounds: Mapping[int, tuple[int, int]], patience: float
) -> Iterator[Message]:
    """Every message within `bounds` that a read_committed reader gets."""
    reader = _reader(config)
    try:
        reader.assign([TopicPartition(topic, number, low) for number, (low, _high) in bounds.items()])
        unfinished = {number for number, (low, high) in bounds.items() if high > low}
        last = time.monotonic()
        while unfinished:
            messages = reader.consume(_AT_ONCE, timeout=0.5)
            if messages:
                last = time.monotonic()
            elif time.monotonic() - last > patience:
                raise TimeoutError(f"the recount of {topic} got no record for {patience:.0f} s")
            for message in messages:
                error = message.error()
                # The end may be a transaction's marker, which is never delivered: the event "end of partition" tells.
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    raise RuntimeError(f"the recount of {topic} failed: {error.str()}")
                number, offset = _place(message)
                if offset >= bounds[number][1]:
                    unfinished.discard(number)
                elif error is None:
                    yield message
    finally:
        reader.close()


def _place(message: Message) -> tuple[int, int]:
    number, offset = message.partition(), message.offset()
    assert number is not None and offset is not None  # only messages that were never sent have none
    return number, offset


def _reader(config: Mapping[str, Any]) -> Consumer:
    return Consumer(
        {
            **config,
            "group.id": "headrace-demo-recount",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 20,
        }
    )
