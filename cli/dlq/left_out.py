"""Which records a table left out as late or duplicate can be replayed, and what the log does not have any more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from headrace.settings import Settings
    from ledger import Connection
    from ledger.left_out import Place, Record
    from ledger.skipped import Fate
    from stream_workers.log import LogAdmin
    from stream_workers.rereading import Part

NAMES = ("reason", "table", "topic", "partitions", "since", "until")
_AT_ONCE = 1_000
_RANGES = 5  # of missing offsets that are named


@dataclass(frozen=True)
class Wanted:
    """Which records, by the options of the command; since, until: of Kafka's timestamp."""

    reason: Fate
    table: str | None
    topic: str | None
    partitions: Sequence[int]
    since: datetime | None
    until: datetime | None
    without_gone: bool

    def fits(self, record: Record) -> bool:
        """Whether a record was written in the time that is wanted."""
        moment = record.kafka_timestamp
        if moment is None:
            return self.since is None and self.until is None
        return (self.since is None or moment >= self.since) and (self.until is None or moment < self.until)


@dataclass
class Found:
    """Offsets by partition that are to be replayed, those that the log does not have any more, and the others."""

    at: Place
    offsets: dict[int, Sequence[int]]
    decided: Mapping[str, int]
    gone: dict[int, list[int]] = field(default_factory=dict)

    @property
    def records(self) -> int:
        """How many are to be replayed."""
        return sum(map(len, self.offsets.values()))


def meant(given: Mapping[str, Any]) -> bool:
    """Whether the options ask for records that were left out; those that were refused again are dead letters."""
    return given["reason"] in ("late", "duplicate") and given["state"] in (None, "open")


def find(db: Connection, kafka: LogAdmin, wanted: Wanted, settings: Settings) -> Found:
    """What is there to replay; raises when the log has lost some of it, unless these are to be left out."""
    from headrace.errors import RetentionPassed
    from ledger import left_out
    from stream_workers import rereading

    at = _place(db, wanted)
    open_ = left_out.find(db, at, wanted.reason, wanted.partitions or at.partitions)
    found = Found(at, dict(open_.offsets), open_.decided)
    if not found.offsets:
        return found
    found.gone = rereading.deleted(rereading.identified(kafka, at.topic, at.topic_id), found.offsets)
    if not found.gone or wanted.without_gone:
        leave_out(found, found.gone)
        if wanted.since or wanted.until:
            _look_at_times(kafka, wanted, found, settings)
    if found.gone and not wanted.without_gone:
        raise RetentionPassed(
            f"{lost(wanted, found)}; nothing was replayed; `--without-gone` replays those that the log still has"
        )
    found.offsets = {partition: offsets for partition, offsets in found.offsets.items() if offsets}
    return found


def _look_at_times(kafka: LogAdmin, wanted: Wanted, found: Found, settings: Settings) -> None:
    """Leave only what was written in the time that is wanted: the ledger does not know when that was."""
    for partition, offsets in list(found.offsets.items()):
        fit: list[int] = []
        for part in parts(kafka, found.at, partition, offsets, settings):
            fit += [record.offset for record in part.records if wanted.fits(record)]
            if part.missing:
                found.gone.setdefault(partition, []).extend(part.missing)
        found.offsets[partition] = fit


def _place(db: Connection, wanted: Wanted) -> Place:
    from headrace.errors import UsageError
    from ledger import left_out

    if wanted.table is None:
        raise click.UsageError(
            f"{wanted.reason} records are left out by one table and not by another: add --table;"
            " `headrace dlq list` shows which tables left out how many"
        )
    at = left_out.place(db, wanted.table)
    if at is None:
        raise UsageError(
            f"no table {wanted.table} is kept by a worker; `headrace dlq list` shows which tables left records out"
        )
    if at.counted:
        raise UsageError(
            f"{at.table} has windows of so many records, and those after a record have been counted; nothing was"
            f" replayed; send the record to {at.topic} again, with another id"
        )
    unknown = sorted(set(wanted.partitions) - set(at.partitions))
    if unknown:
        raise UsageError(f"{at.topic} has partitions 0 to {at.partitions[-1]}; there is no {unknown[0]}")
    if wanted.topic not in (None, at.topic):
        raise UsageError(f"{at.table} reads {at.topic}, and not {wanted.topic}; leave out --topic")
    return at


def parts(kafka: LogAdmin, at: Place, partition: int, offsets: Sequence[int], settings: Settings) -> Iterator[Part]:
    """Read records of a partition again; see `stream_workers.rereading`."""
    from stream_workers import rereading

    log = rereading.Log(at.topic, at.topic_id, partition)
    return rereading.reread(settings, kafka, log, offsets, _AT_ONCE)


def leave_out(found: Found, gone: Mapping[int, Sequence[int]]) -> None:
    """Take these offsets out of what is to be replayed."""
    for partition, offsets in gone.items():
        missing = set(offsets)
        found.offsets[partition] = [o for o in found.offsets.get(partition, []) if o not in missing]


def lost(wanted: Wanted, found: Found) -> str:
    """What is missing, by coordinates."""
    count = sum(map(len, found.gone.values()))
    ranges = [f"{found.at.topic}[{p}]@{text}" for p, offsets in sorted(found.gone.items()) for text in _runs(offsets)]
    more = f" and {len(ranges) - _RANGES:,} more ranges" if len(ranges) > _RANGES else ""
    verb = "are" if count > 1 else "is"
    return (
        f"{count:,} {wanted.reason} record{'s' if count > 1 else ''} of {found.at.table} {verb} gone from the log by"
        f" retention or deletion: {', '.join(ranges[:_RANGES])}{more}"
    )


def _runs(offsets: Sequence[int]) -> list[str]:
    """Ascending offsets as `3-7`, `9`."""
    runs: list[list[int]] = []
    for offset in offsets:
        if runs and runs[-1][1] == offset - 1:
            runs[-1][1] = offset
        else:
            runs.append([offset, offset])
    return [str(first) if first == last else f"{first}-{last}" for first, last in runs]
