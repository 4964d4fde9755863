"""The thread that publishes what shards send, beside the loop: batches never wait for Kafka's transactions.

The loop opens a shard's outbox when it claims the shard, before the first batch: while Kafka and the ledger disagree
nothing is numbered. It says after each commit how far the outbox reaches; the thread publishes up to there, and mirrors
it. Whatever goes wrong has one answer: throw the publisher away, take over anew, with longer and longer pauses.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass

import psycopg

from headrace.clock import Clock
from headrace.errors import Fenced, HeadraceError, Terminal, Transient
from headrace.logging import fields
from headrace.settings import Settings
from ledger import Connection, connect, outboxes
from ledger.connection import WORKER_SESSION
from ledger.outbox import UNPUBLISHED
from stream_workers.emit.publishing import Hit
from stream_workers.emit.shard import ShardPublisher
from stream_workers.log import LogAdmin
from stream_workers.opening import Outbox

log = logging.getLogger(__name__)

_TICK_SECONDS = 1.0  # without a word from the loop: pauses end, offsets that Kafka would forget are committed again
_BLOCKED_SECONDS = 5.0  # an outbox that needs a person is looked at again this often
_BACKOFF_SECONDS = (0.2, 5.0)
_END_SECONDS = 15.0  # for what is in flight; what is cut off is published by the next owner


@dataclass
class _Sending:
    """An outbox of ours. due: number of the last record that is committed, at: of the last that Kafka has."""

    box: Outbox
    publisher: ShardPublisher | None
    due: int
    at: int
    until: float = 0.0
    pause: float = 0.0


class Sender:
    """Publishes the outboxes of the shards that a worker has claimed."""

    def __init__(self, settings: Settings, kafka: LogAdmin, clock: Clock, hit: Hit, holder: str) -> None:
        self._settings, self._kafka, self._clock, self._hit, self._holder = settings, kafka, clock, hit, holder
        self._lock = threading.Lock()
        self._sending: dict[tuple[int, str], _Sending] = {}  # by shard and writer
        self._gone: list[_Sending] = []  # the thread alone closes a publisher that it may be using
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    # -- called by the loop

    def open(self, db: Connection, box: Outbox) -> None:
        """Take over an outbox of a shard just claimed.

        Raises an `OffsetError` when Kafka and the ledger disagree, `Fenced` when another worker has claimed it since.
        """
        publisher = self._opened(db, box)
        with self._lock:
            self._forget(_key(box))
            self._sending[_key(box)] = _Sending(box, publisher, box.claim.outbox_seq, publisher.at)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="sender", daemon=True)
            self._thread.start()
        self._wake.set()

    def due(self, shard: int, sent: Mapping[str, int]) -> None:
        """Everything up to these numbers, by writer, is committed."""
        for writer, seq in sent.items():
            sending = self._sending.get((shard, writer))
            if sending is not None and seq > sending.due:
                sending.due = seq
                self._wake.set()

    def full(self, shard: int) -> bool:
        """Whether a shard had better wait with its next batch until Kafka has taken more of what it has sent."""
        ours = [sending for (of, _), sending in list(self._sending.items()) if of == shard]
        return any(sending.due - sending.at > UNPUBLISHED // 2 for sending in ours)

    def drop(self, shard: int) -> None:
        """The shard is no longer ours."""
        with self._lock:
            for key in [key for key in self._sending if key[0] == shard]:
                self._forget(key)

    def close(self) -> None:
        """Publish what is in the outboxes, end the thread."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_END_SECONDS)

    def _forget(self, key: tuple[int, str]) -> None:
        sending = self._sending.pop(key, None)
        if sending is not None:
            self._gone.append(sending)

    def _opened(self, db: Connection, box: Outbox) -> ShardPublisher:
        publisher = ShardPublisher(self._settings, self._kafka, box.outlet, box.claim, self._hit)
        try:
            publisher.open(db, self._clock.monotonic())
        except BaseException:
            publisher.close()
            raise
        return publisher

    # -- the thread

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                url = self._settings.need_postgres()
                with connect(url, options=WORKER_SESSION, application=f"headrace sender {self._holder}") as db:
                    while not self._stop.is_set():
                        if not self._round(db):
                            self._wake.wait(_TICK_SECONDS)
                            self._wake.clear()
                    while self._round(db):
                        pass
            except (psycopg.OperationalError, psycopg.InterfaceError, Transient) as error:
                log.warning("sender: %s; connecting again", str(error).strip())
                self._stop.wait(_TICK_SECONDS)
            except Exception:  # the thread must outlive whatever one look meets
                log.exception("sender: connecting again")
                self._stop.wait(_TICK_SECONDS)
        with self._lock:
            for key in list(self._sending):
                self._forget(key)
        self._close_gone()

    def _round(self, db: Connection) -> bool:
        """One look at every outbox; whether there is more to do at once."""
        self._close_gone()
        with self._lock:
            found = list(self._sending.values())
        busy = [self._tend(db, sending) for sending in found]
        return any(busy)

    def _tend(self, db: Connection, sending: _Sending) -> bool:
        now = self._clock.monotonic()
        if now < sending.until:
            return False
        try:
            if sending.publisher is None:
                if not self._is_ours(db, sending):  # looked at first: who takes over needlessly disturbs the owner
                    return False
                sending.publisher = self._opened(db, sending.box)
            sent = sending.publisher.publish(db, sending.due, now)
            sending.at, sending.pause = sending.publisher.at, 0.0
            return bool(sent)
        except (psycopg.OperationalError, psycopg.InterfaceError):
            self._close(sending)  # Kafka may be ahead of the mirror
            raise
        except Exception as error:
            self._trouble(db, sending, error)
        return False

    def _is_ours(self, db: Connection, sending: _Sending) -> bool:
        """Whether nobody has claimed the shard since; else it is left to the loop, to open or to forget."""
        try:
            outboxes.standing(db, sending.box.claim)
            return True
        except Fenced as error:
            log.info("%s", error)
            with self._lock:
                if self._sending.get(_key(sending.box)) is sending:
                    self._forget(_key(sending.box))
            return False

    def _trouble(self, db: Connection, sending: _Sending, error: Exception) -> None:
        """Try again later; a person sees why in `headrace status`. Who was fenced may have been so by a zombie."""
        self._close(sending)
        sending.pause = min(_BACKOFF_SECONDS[1], max(_BACKOFF_SECONDS[0], 2 * sending.pause))
        pause = _BLOCKED_SECONDS if isinstance(error, Terminal) else sending.pause
        sending.until = self._clock.monotonic() + pause
        if isinstance(error, Fenced) or self._sending.get(_key(sending.box)) is not sending:
            log.info("%s", error)  # or opened anew by the loop meanwhile, which fences this one
            return
        says = str(error) or type(error).__name__
        known = isinstance(error, HeadraceError)
        log.error(
            "%s",
            fields(shard=sending.box.claim.shard, writer=sending.box.claim.writer, error=says),
            exc_info=None if known else error,
        )
        outboxes.note(db, sending.box.claim, says)

    def _close(self, sending: _Sending) -> None:
        publisher, sending.publisher = sending.publisher, None
        if publisher is not None:
            publisher.close()

    def _close_gone(self) -> None:
        with self._lock:
            gone, self._gone = self._gone, []
        for sending in gone:
            self._close(sending)


def _key(box: Outbox) -> tuple[int, str]:
    return box.claim.shard, box.claim.writer
