"""An independent look at a topic: every delivered record, counted by a read_committed reader of its own.

Shares no code with ingestion or workers, so that a mistake there cannot hide itself here. Imported by runs and by the
demo, never while definitions load. Nothing is committed, no group is joined, and no offset is ever reset.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from headrace.clock import SYSTEM_CLOCK
from headrace.deadline import Deadline
from headrace.errors import OffsetError, ServiceUnavailable

MARKER = "headrace-marker"
_OURS = {"file", "broken"}  # headers of records out of files and of the demo's own
_AT_ONCE = 10_000
_ANSWER_SECONDS = 15.0
_UNKNOWN = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC}

Bounds = Mapping[int, tuple[int, int]]  # first and end offset by partition
OnRead = Callable[[int], None]  # told how many records are read by now


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


@dataclass(frozen=True)
class Delivered:
    """Records that a read_committed reader got between two offsets: all of them, and the markers among them."""

    records: int = 0
    markers: int = 0

    def __add__(self, other: Delivered) -> Delivered:
        return Delivered(self.records + other.records, self.markers + other.markers)


def topic_id(config: Mapping[str, Any], topic: str) -> str | None:
    """Kafka's id of a topic, None when there is no such topic; `ServiceUnavailable` when Kafka does not answer."""
    admin = AdminClient({**config, "log_level": 0})
    try:
        asked = admin.describe_topics(TopicCollection([topic]), request_timeout=_ANSWER_SECONDS)
        return str(asked[topic].result().topic_id)
    except KafkaException as error:
        if error.args[0].code() in _UNKNOWN:
            return None
        raise _unavailable(topic, error) from error


def ends(config: Mapping[str, Any], topic: str, *, patience: float = 30.0) -> dict[int, tuple[int, int]]:
    """First and end offset of each partition, as a read_committed reader sees them; empty: there is no such topic.

    A topic made a moment ago may have no leaders yet: asked again for `patience` seconds, then `ServiceUnavailable`.
    """
    reader = _reader(config)
    deadline = Deadline.after(patience)
    try:
        while True:
            try:
                partitions = reader.list_topics(topic, timeout=_ANSWER_SECONDS).topics[topic].partitions
                places = [TopicPartition(topic, number) for number in sorted(partitions)]
                found = {p.partition: reader.get_watermark_offsets(p, timeout=_ANSWER_SECONDS) for p in places}
                return {number: bounds for number, bounds in found.items() if bounds is not None}
            except KafkaException as error:
                if deadline.passed():
                    raise _unavailable(topic, error) from error
                SYSTEM_CLOCK.wait(0.1)
    finally:
        reader.close()


def recount(
    config: Mapping[str, Any], topic: str, since: Mapping[int, int] | None = None, *, patience: float = 60.0
) -> Recount:
    """Read the topic to its present end; data records at offsets of `since` and later count as new.

    Raises `ServiceUnavailable` when nothing comes for `patience` seconds.
    """
    bounds = ends(config, topic)
    data, markers = dict.fromkeys(bounds, 0), dict.fromkeys(bounds, 0)
    start, new = since or {}, 0
    foreign: list[Foreign] = []
    for message in _delivered(config, topic, bounds, patience):
        number, offset = _place(message)
        if is_marker(message):
            markers[number] += 1
            continue
        data[number] += 1
        new += offset >= start.get(number, 0)
        if not _OURS & dict(message.headers() or ()).keys():
            foreign.append(Foreign(number, offset, message.value()))
    partitions = (Partition(n, low, high, data[n], markers[n]) for n, (low, high) in bounds.items())
    return Recount(tuple(partitions), tuple(foreign), new)


def between(
    config: Mapping[str, Any],
    topic: str,
    marks: Mapping[int, Sequence[int]],
    *,
    patience: float = 60.0,
    on_read: OnRead = lambda _: None,
) -> dict[int, list[Delivered]]:
    """What is delivered between neighbouring marks (ascending offsets, two or more per partition), in one reading.

    Each result has one entry less than its marks. Raises `OffsetError` when the log does not hold the range any more,
    `ServiceUnavailable` when Kafka fails or nothing comes for `patience` seconds.
    """
    bounds = {number: (offsets[0], offsets[-1]) for number, offsets in marks.items()}
    counts = {number: [[0, 0] for _ in pairwise(offsets)] for number, offsets in marks.items()}
    at = dict.fromkeys(marks, 0)
    for message in _delivered(config, topic, bounds, patience, on_read):
        number, offset = _place(message)
        offsets = marks[number]
        while offset >= offsets[at[number] + 1]:
            at[number] += 1
        count = counts[number][at[number]]
        count[0] += 1
        count[1] += is_marker(message)
    return {number: [Delivered(*count) for count in found] for number, found in counts.items()}


def is_marker(message: Message) -> bool:
    """Whether a record is an end-of-input marker: no value, and the marker's header."""
    return message.value() is None and MARKER in dict(message.headers() or ())


def _delivered(
    config: Mapping[str, Any], topic: str, bounds: Bounds, patience: float, on_read: OnRead = lambda _: None
) -> Iterator[Message]:
    """Every message within `bounds` that a read_committed reader gets, each partition's in order."""
    reader = _reader(config)
    try:
        unfinished = {number for number, (low, high) in bounds.items() if high > low}
        reader.assign([TopicPartition(topic, number, bounds[number][0]) for number in unfinished])
        silence, read = Deadline.after(patience), 0
        while unfinished:
            messages = reader.consume(_AT_ONCE, timeout=0.5)
            if messages:
                silence = Deadline.after(patience)
            elif silence.passed():
                raise ServiceUnavailable(
                    f"the recount of {topic} got no record for {patience:.0f} s; nothing was changed; run "
                    "`headrace doctor`, then the recount again"
                )
            for message in messages:
                number, offset = _place(message)
                error = message.error()
                # The end may be a transaction's marker, which is never delivered: the event "end of partition" tells.
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    raise _unreadable(topic, number, error)
                if offset >= bounds[number][1]:
                    unfinished.discard(number)
                elif error is None:
                    read += 1
                    yield message
            on_read(read)
    finally:
        reader.close()


def _place(message: Message) -> tuple[int, int]:
    number, offset = message.partition(), message.offset()
    return -1 if number is None else number, -1 if offset is None else offset  # an error may concern no partition


def _unreadable(topic: str, partition: int, error: KafkaError) -> Exception:
    where = f"the recount of {topic}[{partition}] failed: {error.str()}"
    if error.code() == KafkaError._AUTO_OFFSET_RESET:
        return OffsetError(f"{where}; the log does not hold the range any more; run the recount again")
    return ServiceUnavailable(f"{where}; nothing was changed; run the recount again when Kafka answers")


def _unavailable(topic: str, error: KafkaException) -> ServiceUnavailable:
    return ServiceUnavailable(
        f"Kafka does not tell the state of topic {topic}: {error.args[0].str()}; run `headrace doctor`"
    )


def _reader(config: Mapping[str, Any]) -> Consumer:
    return Consumer(
        {
            **config,
            "group.id": "headrace-recount",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 20,
            "log_level": 0,
        }
    )
