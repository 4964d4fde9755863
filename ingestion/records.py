"""Records sent straight to a topic, once: the same intent and transactions as for a file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from headrace.failpoint import Failpoints
from headrace.settings import Settings
from headrace.transactions import Header
from ingestion.batch import Batch
from ingestion.delivery import FileReport, OnProgress, deliver
from topology import Topic


@dataclass(frozen=True)
class RawRecord:
    """A record as it goes to Kafka. partition None: by its key. value None: a null value.

    The headers `file` (name of the set) and `line` (number in it, from 1) are added.
    """

    key: bytes | None
    value: bytes | None
    partition: int | None = None
    headers: tuple[Header, ...] = ()


@dataclass(frozen=True)
class NamedRecords:
    """Records under a name. It is a `Work`; its positions are records done. The same name and records go out once."""

    name: str
    records: Sequence[RawRecord] = field(repr=False)

    @cached_property
    def content_hash(self) -> str:
        """sha256 over name and records."""
        digest = hashlib.sha256(self.name.encode())
        for record in self.records:
            digest.update(repr((record.partition, record.key, record.value, record.headers)).encode())
        return digest.hexdigest()

    @property
    def size(self) -> int:
        """Bytes of keys and values."""
        return sum(len(record.key or b"") + len(record.value or b"") for record in self.records)

    def _headers(self, number: int, record: RawRecord) -> list[Header]:
        return [("file", self.name.encode()), ("line", b"%d" % number), *record.headers]

    def check(self) -> None:
        """Records in memory do not change."""

    def batches(self, position: int, most: int) -> Iterator[Batch]:
        """See `Work.batches`. No event times, so no end-of-input marker follows."""
        for start in range(position, len(self.records), most):
            part = self.records[start : start + most]
            yield Batch(
                position=start,
                next_position=start + len(part),
                keys=[record.key for record in part],
                values=[record.value for record in part],
                headers=[self._headers(number, record) for number, record in enumerate(part, start + 1)],
                partitions=[record.partition for record in part],
                rejected=(),
                max_event=None,
                last=start + len(part) == len(self.records),
            )


def ingest_records(
    topic: Topic,
    records: Sequence[RawRecord],
    name: str,
    settings: Settings,
    *,
    progress: OnProgress | None = None,
    failpoints: Failpoints | None = None,
) -> FileReport:
    """Bring `records` into the existing topic, once per name and content; errors as for files (`deliver`)."""
    work = NamedRecords(name, records)
    return deliver(work, topic.name, settings, progress=progress, failpoints=failpoints)
