"""The thread that sees how far partitions reach that no worker reads: of pipelines that are off, or cannot start.

A worker's heartbeat does the same for the partitions it reads. Beside the supervisor's own loop, which must never wait
for Kafka: nobody joins this thread, and it ends by itself when the supervisor is told to stop.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field

import psycopg
from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, TopicPartition

from headrace.deadline import Deadline
from headrace.errors import HeadraceError
from headrace.settings import Settings
from ledger import Connection, connect, ends
from stream_workers.columns import offset_of
from stream_workers.log import LogAdmin, LogState
from topology.program import PipelineProgram

log = logging.getLogger(__name__)

_READ_SECONDS = 3.0
_POLL_SECONDS = 0.1


@dataclass
class Ends:
    """Looks every `settings.check_seconds` until `stopping` is set."""

    programs: Mapping[str, PipelineProgram]
    settings: Settings
    stopping: threading.Event
    _known: dict[tuple[str, int], tuple[str, int, float]] = field(default_factory=dict)  # topic id, offset, its date
    _said: dict[str, str] = field(default_factory=dict)
    _kafka: LogAdmin | None = None

    def __post_init__(self) -> None:
        # Our own line says that Kafka does not answer; the client's would come again and again.
        config = {**self.settings.kafka_config, "log_level": 0}
        self.settings = self.settings.model_copy(update={"kafka_config": config})

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self.run, name="ends", daemon=True).start()

    def run(self) -> None:
        """Look, wait, look again; whatever one look meets is a line in the log."""
        db: Connection | None = None
        while not self.stopping.wait(self.settings.check_seconds):
            try:
                db = db or connect(
                    self.settings.need_postgres(),
                    options="-c timezone=UTC -c statement_timeout=5s",
                    application="headrace ends",
                )
                self.look(db)
                self._say("", None)
            except Exception as error:  # the thread must outlive whatever one look meets
                self._say("", error)
                if db is not None:
                    with suppress(psycopg.Error):
                        db.close()
                db = None
        if db is not None:
            db.close()

    def look(self, db: Connection) -> None:
        """Note the ends of every partition that no living worker reads."""
        for program in self.programs.values():
            if self.stopping.is_set():
                return
            topic, partitions = program.topic.name, program.topic.partitions
            found = ends.unread(db, program.name, topic, partitions, self.settings.lease_seconds)
            if all(one.is_read for one in found):
                continue
            try:
                self._kafka = self._kafka or LogAdmin(self.settings)
                state = self._kafka.describe(topic)
                self._note(db, program.name, state, [one for one in found if not one.is_read])
                self._say(program.name, None)
            except (HeadraceError, KafkaException) as error:
                self._say(program.name, error)

    def _note(self, db: Connection, pipeline: str, state: LogState, found: list[ends.Unread]) -> None:
        present = [one for one in found if one.partition in state.end]
        at = {
            one.partition: state.low[one.partition] if one.next_offset is None else one.next_offset for one in present
        }
        behind = {partition: offset for partition, offset in at.items() if offset < state.end[partition]}
        dates = self._dates(pipeline, state, behind)
        for one in present:
            date = dates.get(one.partition, one.waiting_since) if one.partition in behind else None
            end, low = state.end[one.partition], state.low[one.partition]
            ends.see_end(db, pipeline, state.topic, one.partition, end, date, low)

    def _dates(self, pipeline: str, state: LogState, at: Mapping[int, int]) -> dict[int, float | None]:
        """Kafka timestamps of the records at these offsets; each is read once, as long as the position stays there."""
        found: dict[int, float | None] = {}
        asked: dict[int, int] = {}
        for partition, offset in at.items():
            known = self._known.get((pipeline, partition))
            if known and known[:2] == (state.topic_id, offset):
                found[partition] = known[2]
            else:
                asked[partition] = offset
        if asked:
            for partition, date in self._read(state.topic, asked).items():
                found[partition] = date
                if date is not None:
                    self._known[pipeline, partition] = (state.topic_id, asked[partition], date)
        return found

    def _read(self, topic: str, at: Mapping[int, int]) -> dict[int, float | None]:
        """The date of the first record at or after each offset; None where no record follows, left out if unread."""
        found: dict[int, float | None] = {}
        deadline = Deadline.after(_READ_SECONDS)
        with closing(Consumer(_consumer_config(self.settings))) as consumer:
            consumer.assign([TopicPartition(topic, partition, offset) for partition, offset in at.items()])
            while len(found) < len(at) and not deadline.passed() and not self.stopping.is_set():
                message = consumer.poll(_POLL_SECONDS)
                partition = None if message is None else message.partition()
                if message is None or partition is None or partition in found:
                    continue
                error = message.error()
                if error is None:
                    found[partition] = message.timestamp()[1] / 1000
                    consumer.incremental_unassign([TopicPartition(topic, partition, OFFSET_INVALID)])
                elif error.code() == KafkaError._PARTITION_EOF and offset_of(message) >= at[partition]:
                    found[partition] = None  # what is left are Kafka's own markers or aborted records
        return found

    def _say(self, about: str, error: Exception | None) -> None:
        """Log an error when it is new, so that a service that is away costs one line."""
        text = "" if error is None else " ".join(str(error).split()) or type(error).__name__
        if text == self._said.get(about, ""):
            return
        self._said[about] = text
        if error is not None:
            known = isinstance(error, (HeadraceError, psycopg.Error, KafkaException))
            log.warning("ends not seen %s: %s", about, text, exc_info=None if known else error)


def _consumer_config(settings: Settings) -> dict[str, object]:
    """A reader of a few records that belongs to no pipeline's group and never commits."""
    return settings.kafka(
        group_id="headrace-ends",
        isolation_level="read_committed",
        enable_auto_commit=False,
        enable_partition_eof=True,
        auto_offset_reset="error",
        queued_min_messages=1,
        fetch_message_max_bytes=65_536,
        fetch_wait_max_ms=100,
    )
