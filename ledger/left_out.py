"""Records that tables left out as late or as duplicates: how many, which nobody decided on, and asking for a replay.

Counts are in the positions and offsets in the batch index, without payloads (see `ledger.skipped`). Who asks for a
replay has read the records again. Each is from then on a dead letter with the reason `late` or `duplicate`, so that
what becomes of it is found like that of any other; its entry in the corrections log holds the record.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from headrace.errors import UsageError
from ledger import corrections, dead_letters, skipped, table_versions
from ledger.connection import Connection
from ledger.corrections import Wish
from ledger.dead_letters import DeadLetter
from ledger.skipped import Fate
from ledger.sql import sql

FATES: tuple[Fate, ...] = tuple(skipped.NUMBERS)


@dataclass(frozen=True)
class Count:
    """How many records a table left out for a reason, and how many of them were replayed or dropped since."""

    table: str
    reason: str
    records: int
    replayed: int
    dropped: int

    @property
    def open(self) -> int:
        """Those that are left out still, and not for good."""
        return self.records - self.replayed - self.dropped


@dataclass(frozen=True)
class Place:
    """A live table and the log it reads. counted: its windows are of so many records, and take no corrections."""

    table: str
    table_version: str
    pipeline: str
    topic: str
    topic_id: str
    partitions: tuple[int, ...]
    counted: bool


@dataclass(frozen=True)
class Open:
    """Ascending offsets by partition that nobody decided on, or that were refused again; others by what they are."""

    offsets: Mapping[int, Sequence[int]]
    decided: Mapping[str, int]

    @property
    def records(self) -> int:
        """How many."""
        return sum(map(len, self.offsets.values()))


@dataclass(frozen=True)
class Record:
    """A record as it was read again."""

    offset: int
    payload: bytes | None
    key: bytes | None
    headers: dict[str, str]
    kafka_timestamp: datetime | None


def counted(db: Connection) -> list[Count]:
    """By table and reason; nothing where a table left out none."""
    return [Count(*row) for row in db.execute(sql("left_out_counted"))]


def place(db: Connection, table: str) -> Place | None:
    """Where a live table reads; None for one that no worker has made yet, or that has no log."""
    rows = db.execute(sql("left_out_place"), {"table": table}).fetchall()
    if not rows:
        return None
    version, pipeline, topic, topic_id, _, by_records = rows[0]
    return Place(table, version, pipeline, topic, topic_id, tuple(row[4] for row in rows), by_records)


def find(db: Connection, at: Place, fate: Fate, partitions: Sequence[int]) -> Open:
    """What a table left out in these partitions."""
    number = skipped.NUMBERS[fate]
    given = {"table_version": at.table_version, "reason": fate, "topic": at.topic}
    decided = {(row[0], row[1]): row[2] for row in db.execute(sql("left_out_decided"), given)}
    found, counts = {}, Counter[str]()
    for partition in partitions:
        offsets = skipped.read(db, at.table_version, at.topic, partition)[number]
        counts.update(decided[partition, offset] for offset in offsets if (partition, offset) in decided)
        left = [offset for offset in offsets if (partition, offset) not in decided]
        if left:
            found[partition] = left
    return Open(found, counts)


def ask(
    db: Connection,
    at: Place,
    fate: Fate,
    partition: int,
    records: Sequence[Record],
    requested_by: str,
    note: str = "",
) -> list[tuple[int, str]]:
    """Ask for records of one partition to be replayed; returns (record id, table version) of the entries made.

    Left out are those for which that was done meanwhile. `UsageError` when the table was built anew since `at`: other
    records may be late by now.
    """
    offsets = [record.offset for record in records]
    with db.transaction():
        table_versions.lock(db)  # no rebuild before these letters are written
        same = db.execute(
            "select from ledger.positions where table_version = %s and topic = %s and partition = %s and topic_id = %s",
            (at.table_version, at.topic, partition, at.topic_id),
        ).fetchone()
        fates = skipped.fates(db, at.table_version, at.topic, partition, offsets)
        if same is None or any(fates.get(offset) != fate for offset in offsets):
            raise UsageError(
                f"{at.table} was built anew meanwhile; nothing more was asked for; type the command again when"
                " `headrace status` shows no lag"
            )
        dead_letters.record(db, [_letter(at, fate, partition, record) for record in records])
        if len(records) >= corrections.MANY:
            db.execute("analyze ledger.dead_letter_records, ledger.dead_letters")
        rows = db.execute(
            "select record_id from ledger.dead_letter_records where topic = %s and partition = %s"
            ' and "offset" = any(%s)'
            " and file_hash is null and line is null",
            (at.topic, partition, offsets),
        )
        return corrections.replay(db, [Wish(row[0], at.table_version) for row in rows], requested_by, note)


def _letter(at: Place, fate: Fate, partition: int, record: Record) -> DeadLetter:
    return DeadLetter(
        topic=at.topic,
        table_version=at.table_version,
        reason=fate,
        partition=partition,
        offset=record.offset,
        payload=record.payload,
        key=record.key,
        headers=record.headers,
        kafka_timestamp=record.kafka_timestamp,
    )
