"""Messages of one partition turned into columns, slice by slice, so that few message objects live at a time.

The client makes one Python object a message. Letting those of a slice go before the next is fetched keeps their
memory in the processor's cache: 30 % less processor time than a batch held whole. Only slices with headers are kept,
because headers cost more to read than to keep and are wanted for dead letters and markers alone.
"""

from __future__ import annotations

from operator import itemgetter

import numpy as np
from confluent_kafka import Message

from schemas.markers import EVENT_TIME_HEADER, MARKER_HEADER
from stream_workers.batch import Envelope, Marker, Offsets

_NOTHING: Offsets = np.empty(0, np.int64)


class Columns:
    """What was fetched so far."""

    def __init__(self) -> None:
        self.payloads: list[bytes | None] = []
        self.leader_epoch: int | None = None
        self.next_offset: int | None = None
        self._keys: list[bytes | None] = []
        self._offsets: list[Offsets] = []
        self._timestamps: list[Offsets] = []
        self._kept: dict[int, list[Message]] = {}  # slices with headers, by the index of their first message

    def __len__(self) -> int:
        return len(self.payloads)

    def add(self, messages: list[Message]) -> None:
        """Append a slice of good messages."""
        if not messages:
            return
        count, first, last = len(messages), offset_of(messages[0]), offset_of(messages[-1])
        if any(map(Message.headers, messages)):
            self._kept[len(self.payloads)] = messages
        self.payloads += map(Message.value, messages)
        self._keys += map(Message.key, messages)
        if last - first + 1 == count:
            self._offsets.append(np.arange(first, last + 1, dtype=np.int64))
        else:
            self._offsets.append(np.fromiter(map(Message.offset, messages), np.int64, count))
        self._timestamps.append(np.fromiter(map(itemgetter(1), map(Message.timestamp, messages)), np.int64, count))
        self.leader_epoch = messages[-1].leader_epoch()
        self.next_offset = last + 1

    @property
    def offsets(self) -> Offsets:
        """Offset of every message."""
        return np.concatenate(self._offsets) if self._offsets else _NOTHING

    @property
    def timestamps(self) -> Offsets:
        """Kafka's timestamp of every message, milliseconds."""
        return np.concatenate(self._timestamps) if self._timestamps else _NOTHING

    def envelope(self, index: int) -> Envelope:
        """Key and headers of one message."""
        return Envelope(self._keys[index], self._headers(index))

    def markers(self) -> tuple[Marker, ...]:
        """End-of-input markers: no value, and the marker's header."""
        if None not in self.payloads:
            return ()
        found = []
        for index, payload in enumerate(self.payloads):
            if payload is None:
                headers = self._headers(index)
                if MARKER_HEADER in headers:
                    text = headers.get(EVENT_TIME_HEADER, "")
                    found.append(Marker(index, int(text) if text.lstrip("-").isdecimal() else None))
        return tuple(found)

    def _headers(self, index: int) -> dict[str, str]:
        for start, messages in self._kept.items():
            if start <= index < start + len(messages):
                return _texts(messages[index - start])
        return {}


def offset_of(message: Message) -> int:
    """The message's offset, which every consumed one has."""
    offset = message.offset()
    assert offset is not None
    return offset


def _texts(message: Message) -> dict[str, str]:
    headers = message.headers() or []
    pairs = headers.items() if isinstance(headers, dict) else headers
    return {
        name: value if isinstance(value, str) else (value or b"").decode("utf-8", "replace") for name, value in pairs
    }
