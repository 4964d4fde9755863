"""The thread that keeps leases alive and says how the worker is, on a connection of its own.

It is apart from the loop because a long commit must not cost the lease; a stopped process stops it too, and the lease
runs out. Losing a lease is news for the loop, never a safety matter: the epoch fences.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

import psycopg

from headrace.errors import Transient
from ledger import Connection, connect, ends, leases, workers

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class End:
    """How far a partition reaches, and the Kafka timestamp (seconds) of what is not consumed yet; None when level.

    seen_ago: seconds since Kafka was asked. A broker that does not answer makes it grow: what was level then need not
    be level now.
    """

    topic: str
    partition: int
    end_offset: int
    waiting_since: float | None
    seen_ago: float


class Heartbeat:
    """Renews the leases in `hold` and writes the worker's row every quarter of the lease time."""

    def __init__(
        self,
        postgres_url: str,
        worker: str,
        seconds: float,
        describe: Callable[[], workers.Beat],
        ends: Callable[[], list[End]],
    ) -> None:
        self._url, self._worker, self._seconds = postgres_url, worker, seconds
        self._describe, self._ends = describe, ends
        self._lock = threading.Lock()
        self._hold: set[str] = set()
        self._lost: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Start the thread, once."""
        self._thread.start()

    def hold(self, name: str) -> None:
        """Renew this lease from now on."""
        with self._lock:
            self._hold.add(name)
            self._lost.discard(name)

    def let_go(self, name: str) -> None:
        """Renew this lease no longer."""
        with self._lock:
            self._hold.discard(name)
            self._lost.discard(name)

    def lost(self) -> set[str]:
        """Leases that somebody else holds by now."""
        with self._lock:
            return set(self._lost)

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        db: Connection | None = None
        while not self._stop.wait(self._seconds / 4):
            try:
                db = db or connect(
                    self._url, options="-c timezone=UTC -c statement_timeout=5s", application="headrace heartbeat"
                )
                self._beat(db)
            except Exception as error:  # the thread must outlive whatever one beat meets
                known = isinstance(error, (psycopg.Error, Transient))
                log.warning("no heartbeat: %s", str(error).strip(), exc_info=None if known else error)
                if db is not None:
                    db.close()
                db = None
        if db is not None:
            db.close()

    def _beat(self, db: Connection) -> None:
        with self._lock:
            names = set(self._hold)
        kept = leases.renew(db, sorted(names), self._worker, self._seconds)
        with self._lock:
            self._lost |= (names - kept) & self._hold
        beat = self._describe()
        workers.beat(db, beat)
        for end in self._ends():
            ends.see_end(
                db,
                beat.pipeline,
                end.topic,
                end.partition,
                end.end_offset,
                end.waiting_since,
                seen_ago=end.seen_ago,
            )
