"""Exactly once into a topic: ledger intent, Kafka transaction, ledger mirror, for one batch after another.

1. The ledger notes how far the transaction will take the work (`files.intend`).
2. One Kafka transaction commits records and position, as the offset of a group of the work's own.
3. One ledger transaction mirrors the position and writes the rejected lines.

A run that finds unfinished work first takes over its transactional id, which aborts what is open and fences whoever is
still alive, and then believes Kafka's position. Where that is the intended one, 2 happened and 3 did not: the rows in
between are read again and 3 is done. Anything else than these two positions means that Kafka or Postgres lost memory.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace

from headrace.clock import SYSTEM_CLOCK, Clock
from headrace.errors import LedgerBehindKafka, OffsetError, Terminal
from headrace.failpoint import Failpoints
from headrace.logging import fields
from headrace.settings import Settings
from ingestion.ahead import Ahead
from ingestion.batch import Batch, Work
from ingestion.failpoints import IngestStep
from ingestion.markers import end_of_input
from ingestion.persistence import persistently
from ingestion.producer import Committed, PositionedProducer
from ingestion.topics import TopicIds, compare, recreate
from ledger import dead_letters, files
from ledger.connection import Connection, connect
from ledger.dead_letters import DeadLetter
from ledger.files import FileEntry

_log = logging.getLogger("ingestion")


@dataclass(frozen=True)
class Progress:
    """How far the work is: rows in the topic, rejected lines, and the rows done by this run per second."""

    name: str
    produced: int
    rejected: int
    rows_per_s: float


@dataclass(frozen=True)
class FileReport:
    """A file (or named set of records) in its topic. rows = produced + rejected, over all runs; new_records: put into
    the log by this run, markers not counted. skipped: it was complete before."""

    name: str
    content_hash: str
    rows: int
    produced: int
    rejected: int
    new_records: int
    skipped: bool
    seconds: float


OnProgress = Callable[[Progress], None]


def deliver(
    work: Work,
    topic: str,
    settings: Settings,
    *,
    progress: OnProgress | None = None,
    failpoints: Failpoints | None = None,
    clock: Clock = SYSTEM_CLOCK,
    ids: TopicIds | None = None,
) -> FileReport:
    """Bring the work into the topic, or the rest of it, or nothing when it is complete.

    Raises `TopicRecreated`, `LedgerBehindKafka` and `OffsetError` when ledger and Kafka disagree, `FileError` when the
    content changes meanwhile, `ServiceUnavailable` when a service does not answer in several attempts; running it again
    goes on where it stopped.
    """
    began = clock.monotonic()
    run = _Delivery(work, topic, settings, failpoints or Failpoints(settings.failpoints), progress)
    asked = ids or TopicIds(settings)

    def attempt() -> FileReport:
        with closing(connect(settings.need_postgres(), application="headrace ingest")) as db:
            topic_id = asked.now(topic)
            entry = files.find(db, work.content_hash, topic)
            if entry is not None:
                compare(db, entry, topic_id)
            if topic_id is None:
                raise Terminal(f"topic {topic} does not exist; nothing was produced; run `headrace provision`")
            if entry is None or not entry.completed:
                entry = run.complete(db, topic_id)
            return _report(entry, work.name, run.first, clock.monotonic() - began)

    return persistently(attempt, work.name, clock)


class _Delivery:
    def __init__(
        self,
        work: Work,
        topic: str,
        settings: Settings,
        points: Failpoints,
        progress: OnProgress | None,
    ) -> None:
        self._work = work
        self._topic = topic
        self._settings = settings
        self._hit = points.hit
        self._progress = progress
        self._began = time.monotonic()
        self.first: int | None = None  # records that were in the topic before this run

    def complete(self, db: Connection, topic_id: str) -> FileEntry:
        """All steps, from the claim to the completed row."""
        self._db, work = db, self._work
        files.claim(self._db, work.content_hash, self._topic)
        key = f"headrace-file-{work.content_hash}"
        transactional_id = f"{key}-{self._topic}"
        entry = files.register(
            self._db, FileEntry(work.content_hash, self._topic, work.name, work.size, transactional_id, key, topic_id)
        )
        compare(self._db, entry, topic_id)
        self._hit(IngestStep.REGISTERED)
        if entry.completed:  # by another process, while this one waited for the claim
            return entry
        producer = PositionedProducer(self._settings, self._topic, entry.transactional_id, entry.group_id)
        with closing(producer):
            committed = producer.initialise()
            self._hit(IngestStep.INITIALISED)
            entry, max_event, last = self._reconcile(entry, committed)
            self.first = entry.produced if self.first is None else self.first
            self._hit(IngestStep.RECONCILED)
            if not last:
                entry = self._produce(entry, max_event, producer)
        if not entry.completed:  # no row at all, or none after the position
            files.complete(self._db, entry)
            entry = replace(entry, completed=True)
        self._hit(IngestStep.COMPLETED)
        _log.info("complete %s", fields(file=entry.name, produced=entry.produced, rejected=entry.rejected))
        return entry

    def _reconcile(self, entry: FileEntry, committed: Committed | None) -> tuple[FileEntry, int | None, bool]:
        """Bring the ledger to Kafka's position; also the largest event time so far and whether nothing follows."""
        if committed is None:
            if entry.position or (entry.next_position and entry.stale):
                known = f"position {entry.position}" if entry.position else f"an intent up to {entry.next_position}"
                raise OffsetError(
                    f"{entry.name}: the ledger has {known} in {self._topic} and Kafka has none "
                    f"(group {entry.group_id}): Kafka forgot it or is another one. Nothing was produced, because rows "
                    f"could go in twice; {recreate(self._topic)}"
                )
            return entry, None, False  # an intent of today that Kafka does not know was never carried out
        at = committed.position
        if at < entry.position:
            raise OffsetError(
                f"{entry.name}: Kafka's position of the file is {at} and the ledger's {entry.position}: Kafka went "
                f"back in time (group {entry.group_id}). Nothing was produced; bring back the newer state of Kafka, or "
                f"{recreate(self._topic)}"
            )
        if at not in (entry.position, entry.next_position):
            raise LedgerBehindKafka(
                f"{entry.name}: Kafka has the file up to position {at} and the ledger intended no more than "
                f"{max(entry.position, entry.next_position)}: Postgres was restored to an older state. Nothing was "
                f"produced; restore a newer state of Postgres, or {recreate(self._topic)}"
            )
        if at == entry.position:
            return entry, committed.max_event, False
        batch = next(self._work.batches(entry.position, at - entry.position), None)
        if batch is None or batch.next_position != at:
            raise OffsetError(
                f"{entry.name}: the rows from {entry.position} to {at} are in Kafka, and reading the file again ends "
                f"at {batch.next_position if batch else entry.position}. Nothing was produced; go back to the version "
                "of Headrace that began the file and run the ingest again"
            )
        entry = self._mirror(entry, batch)
        _log.info("resumed %s", fields(file=entry.name, position=entry.position))
        return entry, committed.max_event, entry.completed

    def _produce(self, entry: FileEntry, max_event: int | None, producer: PositionedProducer) -> FileEntry:
        source = self._work.batches(entry.position, self._settings.transaction_records)
        with Ahead(source) as batches:
            while (batch := batches.take()) is not None:
                max_event = _later(max_event, batch.max_event)
                files.intend(self._db, entry, batch.next_position)
                self._hit(IngestStep.INTENDED)
                self._transaction(batch, max_event, producer, batches)
                entry = self._mirror(entry, batch)
                self._tell(entry)
        return entry

    def _transaction(
        self, batch: Batch, max_event: int | None, producer: PositionedProducer, following: Ahead[Batch]
    ) -> None:
        """One Kafka transaction: the records, after the last of them a marker in every partition, the position."""
        producer.begin()
        try:
            producer.send(batch)
            if batch.last and max_event is not None:
                headers = end_of_input(max_event, name=self._work.name)
                for partition in range(producer.partitions()):
                    producer.send_one(None, None, headers, partition)
            self._hit(IngestStep.PRODUCED)
            following.start()
            producer.position(Committed(batch.next_position, max_event))
            self._hit(IngestStep.POSITIONED)
            self._work.check()
        except BaseException:
            producer.abort()
            raise
        producer.commit()
        self._hit(IngestStep.COMMITTED)

    def _mirror(self, entry: FileEntry, batch: Batch) -> FileEntry:
        """One ledger transaction: rejected lines, the position, and with the last rows the completion."""
        produced, rejected = len(batch.values), len(batch.rejected)
        letters = [
            DeadLetter(
                topic=entry.topic,
                table_version=dead_letters.INGEST,
                reason=line.reason,
                detail=line.detail,
                file_hash=entry.content_hash,
                file_name=entry.name,
                line=line.line,
                payload=line.payload,
            )
            for line in batch.rejected
        ]
        mirrored = replace(
            entry,
            position=batch.next_position,
            next_position=batch.next_position,
            produced=entry.produced + produced,
            rejected=entry.rejected + rejected,
            completed=batch.last,
        )
        with self._db.transaction():
            files.advance(self._db, entry, batch.next_position, produced, rejected)
            dead_letters.record(self._db, letters)
            if batch.last:
                files.complete(self._db, mirrored)
            self._hit(IngestStep.RECORDED)
        self._hit(IngestStep.MIRRORED)
        return mirrored

    def _tell(self, entry: FileEntry) -> None:
        if self._progress:
            rate = (entry.produced - (self.first or 0)) / max(time.monotonic() - self._began, 1e-9)
            self._progress(Progress(entry.name, entry.produced, entry.rejected, rate))


def _later(one: int | None, other: int | None) -> int | None:
    return max((moment for moment in (one, other) if moment is not None), default=None)


def _report(entry: FileEntry, name: str, first: int | None, seconds: float) -> FileReport:
    """`first`: records in the topic before this run; None when it had nothing to do."""
    return FileReport(
        name=name,
        content_hash=entry.content_hash,
        rows=entry.produced + entry.rejected,
        produced=entry.produced,
        rejected=entry.rejected,
        new_records=0 if first is None else entry.produced - first,
        skipped=first is None,
        seconds=round(seconds, 3),
    )
