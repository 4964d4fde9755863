"""The supervisor: keeps the worker processes of every pipeline as the ledger's desired state says.

Workers are processes of their own sessions and outlive it; a new supervisor finds them by pid and start time. Ended by
SIGTERM it drains its workers first.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Mapping
from contextlib import suppress
from types import FrameType

import psutil
import psycopg

from headrace.clock import SYSTEM_CLOCK, Clock
from headrace.deadline import Deadline
from headrace.errors import Terminal, Transient
from headrace.logging import fields
from headrace.settings import ROOT, Settings, home_dir
from ledger import Connection, connect, leases, restarts, workers
from stream_workers.adoption import DRAIN_SECONDS, Adoption
from stream_workers.backoff import Backoff
from stream_workers.ends import Ends
from stream_workers.slot import Slot
from topology.program import PipelineProgram

log = logging.getLogger(__name__)

_TICK_SECONDS = 0.5
_SPARE_SECONDS = 5.0  # beyond the lease of a supervisor that was killed, before a second one is held for alive


class Supervisor:
    """Starts, restarts with backoff, and drains workers."""

    def __init__(
        self, programs: Mapping[str, PipelineProgram], settings: Settings, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self.settings = settings
        self.host = socket.gethostname()
        self.holder = f"supervisor-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.stopping = threading.Event()
        self.slots = [Slot(name, number) for name in programs for number in range(settings.workers)]
        self._adoption = Adoption(self.slots, self.host)
        self._ends = Ends(programs, settings, self.stopping)
        self._clock = clock

    def run(self) -> None:
        """Tend the workers until told to stop, then drain them."""
        url = self.settings.need_postgres()
        begun = False
        while not self.stopping.is_set():
            try:
                with connect(url, application="headrace supervisor") as db:
                    if not self._take_lease(db):
                        return  # told to stop before anything here was ours
                    if not begun:
                        self.begin(db)
                        self._ends.start()
                        begun = True
                    while not self.stopping.wait(_TICK_SECONDS):
                        self.tick(db)
                    self._drain(db)
                    leases.release(db, [self._lease], self.holder)
            except (psycopg.OperationalError, psycopg.InterfaceError, Transient) as error:
                log.warning("Postgres: %s; workers go on, connecting again", str(error).strip())
                self.stopping.wait(1.0)
        for slot in self.slots:  # the ledger went away while draining
            if slot.running() and slot.process is not None:
                slot.process.terminate()

    def begin(self, db: Connection) -> None:
        """Go on where an earlier supervisor left off: its pauses and failures, its workers."""
        workers.declare(db, sorted({slot.pipeline for slot in self.slots}))
        now = self._clock.monotonic()
        places = {(slot.pipeline, slot.number): slot for slot in self.slots}
        for found in restarts.known(db):
            slot = places.get((found.pipeline, found.slot))
            if slot is None:
                restarts.forget(db, found.pipeline, found.slot)
            else:
                slot.backoff = Backoff.going_on(found.failures, now, found.pause)
        self._adoption.look(db)

    @property
    def _lease(self) -> str:
        return f"supervisor:{self.host}"

    def _keep_lease(self, db: Connection) -> bool:
        return leases.take(db, self._lease, self.holder, self.settings.lease_seconds * 2)

    def _take_lease(self, db: Connection) -> bool:
        """Wait until the lease is ours, as long as one of a killed supervisor can last; False when told to stop."""
        deadline = Deadline.after(self.settings.lease_seconds * 2 + _SPARE_SECONDS)
        while not self._keep_lease(db):
            if deadline.passed():
                raise Terminal(f"another supervisor runs on {self.host}; nothing was started; see `headrace status`")
            if self.stopping.wait(_TICK_SECONDS):
                return False
        return True

    def tick(self, db: Connection) -> None:
        """One look at every slot."""
        if not self._keep_lease(db):
            raise Terminal(f"another supervisor took over on {self.host}; the workers go on under it")
        self._adoption.look(db)
        desired = workers.desired(db)
        for slot in self.slots:
            self.tend(db, slot, desired.get(slot.pipeline, False))

    def tend(self, db: Connection, slot: Slot, wanted: bool) -> None:
        """Bring one slot closer to what is wanted."""
        now = self._clock.monotonic()
        if slot.running():
            if not wanted or slot.draining:  # once told to end it has to, whatever is wanted by now
                self._stop(slot)
            elif slot.backoff.lived(now):
                restarts.forget(db, slot.pipeline, slot.number)
        elif slot.process is not None:
            self._ended(db, slot, now, wanted)
        elif not wanted:
            self._forgive(db, slot)
        elif slot.backoff.due(now):
            self._start(slot, now)

    def _start(self, slot: Slot, now: float) -> None:
        slot.worker = slot.new_name()
        logs = home_dir() / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        with (logs / f"worker-{slot.pipeline}-{slot.number}.log").open("ab") as out:
            slot.process = psutil.Popen(
                [sys.executable, "-m", "cli.main", "worker", "run", slot.pipeline, "--worker", slot.worker],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                cwd=ROOT,
            )
        slot.draining = None
        slot.backoff.started(now)
        log.info("started %s", fields(worker=slot.worker, pid=slot.process.pid))

    def _ended(self, db: Connection, slot: Slot, now: float, wanted: bool) -> None:
        worker, code = slot.worker or "", slot.exit_code()
        # Of a worker that an earlier supervisor started there is no exit code, only its own last word.
        goodbye = code is None and workers.state(db, worker) == "stopped"
        if wanted and not slot.draining and not goodbye:
            pause = slot.backoff.failed(now)
            how = "by itself" if code is None else f"with code {code}"
            error = f"ended {how}; started again in {pause:.1f} s"
            log.error("worker %s", fields(worker=worker, error=error))
            workers.ended(db, worker, "failed", error)
            restarts.note(db, slot.pipeline, slot.number, slot.backoff.failures, pause, error)
        else:
            workers.ended(db, worker, "stopped")
            self._forgive(db, slot)
        slot.worker = slot.process = slot.draining = None

    def _forgive(self, db: Connection, slot: Slot) -> None:
        """Forget failures: the next start is at once."""
        if slot.backoff.failures:
            slot.backoff = Backoff()
            restarts.forget(db, slot.pipeline, slot.number)

    def _stop(self, slot: Slot) -> None:
        if slot.process is None:
            return
        if slot.draining is None:
            log.info("draining %s", fields(worker=slot.worker))
            slot.draining = Deadline.after(DRAIN_SECONDS)
            with suppress(psutil.NoSuchProcess):  # it ended by itself; the next look sees that
                slot.process.terminate()
        elif slot.draining.passed():
            log.error("did not drain in %s s, killed; nothing is lost %s", DRAIN_SECONDS, fields(worker=slot.worker))
            with suppress(psutil.NoSuchProcess):
                slot.process.kill()

    def _drain(self, db: Connection) -> None:
        while any(slot.process is not None for slot in self.slots) and self._keep_lease(db):
            for slot in self.slots:
                if slot.process is not None:
                    self.tend(db, slot, wanted=False)
            self._clock.wait(0.1)

    def stop(self, signum: int, frame: FrameType | None) -> None:
        """SIGTERM: drain the workers, then end."""
        self.stopping.set()


def run(programs: Mapping[str, PipelineProgram], settings: Settings) -> int:
    """Supervise the workers of `programs` until SIGTERM or SIGINT; returns the exit code."""
    supervisor = Supervisor(programs, settings)
    signal.signal(signal.SIGTERM, supervisor.stop)
    signal.signal(signal.SIGINT, supervisor.stop)
    supervisor.run()
    return 0
