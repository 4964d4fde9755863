"""The thread that closes and publishes, beside the loop: batches never wait for Kafka's transactions.

    while running:
        for each table that emits and whose closer is ours (a lease in Postgres):
            closed = close()       (ONE Postgres transaction: rows that became final, into the outbox)
            publish()              (one Kafka transaction, then its mirror in the ledger)

Whatever goes wrong with a table has one answer: throw its publisher away, claim the closer anew.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import psycopg

from headrace.clock import Clock
from headrace.errors import Fenced, HeadraceError, Terminal, Transient
from headrace.failpoint import Failpoints
from headrace.logging import fields
from headrace.settings import Settings
from ledger import Connection, closings, connect, leases
from ledger.connection import WORKER_SESSION
from ledger.outbox import UNPUBLISHED
from stream_workers.emit.closing import close, final_of
from stream_workers.emit.finals import FinalPublisher
from stream_workers.emit.steps import EmitStep
from stream_workers.heartbeat import Heartbeat
from stream_workers.log import LogAdmin
from topology.program import PipelineProgram, TableProgram
from topology.topic import Topic

log = logging.getLogger(__name__)

_TICK_SECONDS = 0.5
_BLOCKED_SECONDS = 5.0  # a table that needs a person is looked at again this often
_BACKOFF_SECONDS = (0.2, 5.0)
_END_SECONDS = 15.0  # for what is in flight; a supervisor waits longer, and what is cut off is done by the next owner
# One transaction of a closer may take longer than one of a batch: a window is closed whole.
_SESSION = WORKER_SESSION.replace("transaction_timeout=60s", "transaction_timeout=600s")


@dataclass
class _Ours:
    """A table whose closer this worker has claimed: epoch of the claim, the registry's id of the records' schema."""

    epoch: int
    schema_id: int
    publisher: FinalPublisher


@dataclass
class _Waiting:
    """When to try a table again, and how long the pause is."""

    until: float = 0.0
    pause: float = 0.0


@dataclass
class Closer:
    """Closes the tables of `program` that emit, those whose lease it gets. register: the registry's id of a schema."""

    program: PipelineProgram
    settings: Settings
    holder: str
    heartbeat: Heartbeat
    failpoints: Failpoints
    kafka: LogAdmin
    clock: Clock
    register: Callable[[Topic], int]
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _ours: dict[str, _Ours] = field(default_factory=dict)
    _held: set[str] = field(default_factory=set)
    _waiting: dict[str, _Waiting] = field(default_factory=dict)

    def start(self) -> None:
        """Start the thread, once; without a table that emits there is none."""
        if self._thread is None and any(table.final for table in self.program.tables):
            self._thread = threading.Thread(target=self._run, name="closer", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Finish what is in flight, give the leases back, end the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_END_SECONDS)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                url = self.settings.need_postgres()
                with connect(url, options=_SESSION, application=f"headrace closer {self.holder}") as db:
                    while not self._stop.is_set():
                        if not self._tick(db):
                            self._stop.wait(_TICK_SECONDS)
                    for table in self.program.tables:
                        self._release(db, table)
            except (psycopg.OperationalError, psycopg.InterfaceError, Transient) as error:
                log.warning("closer: %s; connecting again", str(error).strip())
                self._pause()
            except Exception:  # the thread must outlive whatever one look meets
                log.exception("closer: connecting again")
                self._pause()

    def _pause(self) -> None:
        for version in list(self._ours):
            self._drop(version)
        self._stop.wait(_TICK_SECONDS)

    def _tick(self, db: Connection) -> bool:
        """One look at every table; whether there is more to do at once."""
        busy = False
        for table in self.program.tables:
            if table.final and not self._stop.is_set():
                busy |= self._tend(db, table)
        return busy

    def _tend(self, db: Connection, table: TableProgram) -> bool:
        version, name, now = table.version_id, self._lease(table), self.clock.monotonic()
        if name in self.heartbeat.lost():
            self._drop(version)
            self._held.discard(name)
            self.heartbeat.let_go(name)
        waiting = self._waiting.setdefault(version, _Waiting())
        if now < waiting.until:
            return False
        try:
            if version not in self._ours and not self._open(db, table):
                return False
            busy = self._advance(db, table, self._ours[version])
            waiting.pause = 0.0
            return busy
        except (psycopg.OperationalError, psycopg.InterfaceError):
            raise
        except Exception as error:
            self._trouble(db, table, error)
            return False

    def _open(self, db: Connection, table: TableProgram) -> bool:
        """Claim the closer if its lease is free or ours."""
        name, version = self._lease(table), table.version_id
        if not leases.take(db, name, self.holder, self.settings.lease_seconds):
            return False
        self._held.add(name)
        self.heartbeat.hold(name)
        schema_id = self.register(final_of(table).topic)
        claim = closings.claim(db, version, self.holder)
        self.failpoints.hit(EmitStep.CLAIMED)
        publisher = FinalPublisher(self.settings, self.kafka, self.program.name, table, claim, self.failpoints.hit)
        try:
            publisher.open(db, self.clock.monotonic())
        except BaseException:
            publisher.close()
            raise
        self._ours[version] = _Ours(claim.epoch, schema_id, publisher)
        closings.note(db, version, None)
        log.info("closing %s", fields(table=table.name, topic=final_of(table).topic.name, published=publisher.at))
        return True

    def _advance(self, db: Connection, table: TableProgram, ours: _Ours) -> bool:
        partitions = self.program.topic.partitions
        closed = close(db, self.failpoints.hit, table, partitions, ours.epoch, ours.schema_id, UNPUBLISHED)
        sent = ours.publisher.publish(db, closed.outbox_seq, self.clock.monotonic())
        return closed.more or bool(sent)

    def _trouble(self, db: Connection, table: TableProgram, error: Exception) -> None:
        """Drop the table's publisher and try again later; a person sees why in `headrace status`."""
        version = table.version_id
        self._drop(version)
        waiting = self._waiting[version]
        waiting.pause = min(_BACKOFF_SECONDS[1], max(_BACKOFF_SECONDS[0], 2 * waiting.pause))
        pause = _BLOCKED_SECONDS if isinstance(error, Terminal) else waiting.pause
        waiting.until = self.clock.monotonic() + pause
        if isinstance(error, Fenced):
            log.warning("%s", error)
            return
        known = isinstance(error, HeadraceError)
        says = str(error) or type(error).__name__
        log.error("%s", fields(table=table.name, error=says), exc_info=None if known else error)
        closings.note(db, version, says)

    def _drop(self, version: str) -> None:
        ours = self._ours.pop(version, None)
        if ours is not None:
            ours.publisher.close()

    def _release(self, db: Connection, table: TableProgram) -> None:
        self._drop(table.version_id)
        name = self._lease(table)
        if name in self._held:
            self.heartbeat.let_go(name)
            leases.release(db, [name], self.holder)
            self._held.discard(name)

    def _lease(self, table: TableProgram) -> str:
        return f"closer:{self.program.name}:{table.name}"
