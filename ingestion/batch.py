"""What one Kafka transaction carries, and the thing it is a part of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from headrace.transactions import Header

Reason = Literal[
    "missing_column",  # fewer values than columns; in JSON: the key is not there
    "extra_column",  # more values than columns
    "missing_value",  # nothing where the schema needs a value
    "wrong_type",
    "bad_enum",
    "bad_json",
    "bad_csv",
    "not_utf8",
    "too_large",  # more bytes than a record may have
    "unclosed_quote",
]


@dataclass(frozen=True)
class RejectedLine:
    """A line that cannot become a record: its number in the file (from 1), its bytes without the line end, and why."""

    line: int
    payload: bytes
    reason: Reason
    detail: str


@dataclass(frozen=True)
class Batch:
    """Neighbouring rows of a work, bound for one Kafka transaction.

    position, next_position: rows of the work done before and after it. keys, values, partitions (None: by key) and
    headers have one entry per record. max_event: largest valid event time in it, microseconds. last: nothing follows.
    """

    position: int
    next_position: int
    keys: Sequence[str | bytes | None]
    values: Sequence[bytes | None]
    headers: Iterable[list[Header]]
    partitions: Sequence[int | None] | None
    rejected: Sequence[RejectedLine]
    max_event: int | None
    last: bool


LARGEST_ROW = 450_000
"""Bytes of a row in a file. Kafka takes 1,000,000 bytes, and the key may be the largest part of the value once more."""


def too_large(line: int, payload: bytes) -> RejectedLine:
    """The row that no record can hold."""
    return RejectedLine(line, payload, "too_large", f"{len(payload)} bytes; the most is {LARGEST_ROW}")


class Work(Protocol):
    """Something that goes into a topic exactly once: a file, or a named set of records."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    @property
    def content_hash(self) -> str:
        """Its identity: the same content is never produced twice."""
        ...

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    def batches(self, position: int, most: int) -> Iterator[Batch]:
        """Batches of about `most` rows from `position` on, none when nothing follows it. The cut of rows into records
        and rejected lines must not depend on `position` and `most`."""
        ...

    def check(self) -> None:
        """Raise `FileError` when the content is not what it was at the start."""
        ...
