"""The supervisor: keeps the worker processes of every pipeline as the ledger's desired state says.

Workers are processes of their own sessions and outlive it; a new supervisor finds them by pid and start time. Ended by
SIGTERM it drains its workers first.
"""

from __future__ import annotations

import logging
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType

import psutil
import psycopg

from headrace.clock import SYSTEM_CLOCK
from headrace.deadline import Deadline
from headrace.errors import Terminal, Transient
from headrace.logging import fields
from headrace.settings import ROOT, Settings, home_dir
from ledger import Connection, connect, leases, workers
from stream_workers.backoff import Backoff
from topology.program import PipelineProgram

log = logging.getLogger(__name__)

_TICK_SECONDS = 0.5
_DRAIN_SECONDS = 20.0


@dataclass
class Slot:
    """One of the N places for a worker of a pipeline. `draining`: until when a worker told to end may take."""

    pipeline: str
    number: int
    backoff: Backoff
    worker: str | None = None
    process: psutil.Process | None = None
    draining: Deadline | None = None

    def running(self) -> bool:
        """Whether its process lives; a zombie of ours does not."""
        if self.process is None:
            return False
        if isinstance(self.process, psutil.Popen):
            return self.process.poll() is None
        return _lives(self.process)

    def exit_code(self) -> int | None:
        """How its process ended, None for one that another supervisor started."""
        return self.process.poll() if isinstance(self.process, psutil.Popen) else None


class Supervisor:
    """Starts, restarts with backoff, and drains workers."""

    def __init__(self, programs: Mapping[str, PipelineProgram], settings: Settings) -> None:
        self.settings = settings
        self.host = socket.gethostname()
        self.holder = f"supervisor-{uuid.uuid4().hex[:8]}"
        self.stopping = threading.Event()
        self.slots = [Slot(name, number, Backoff()) for name in programs for number in range(settings.workers)]
        self._clock = SYSTEM_CLOCK

    def run(self) -> None:
        """Tend the workers until told to stop, then drain them."""
        url = self.settings.need_postgres()
        adopted = False
        while not self.stopping.is_set():
            try:
                with connect(url, application="headrace supervisor") as db:
                    self._take_lease(db)
                    workers.declare(db, sorted({slot.pipeline for slot in self.slots}))
                    if not adopted:
                        self._adopt(db)
                        adopted = True
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

    @property
    def _lease(self) -> str:
        return f"supervisor:{self.host}"

    def _take_lease(self, db: Connection) -> None:
        deadline = Deadline.after(self.settings.lease_seconds * 2)
        while not leases.take(db, self._lease, self.holder, self.settings.lease_seconds * 2):
            if deadline.passed():
                raise Terminal(f"another supervisor runs on {self.host}; nothing was started; see `headrace status`")
            if self.stopping.wait(_TICK_SECONDS):
                return

    def _adopt(self, db: Connection) -> None:
        """Take over the workers that an earlier supervisor left running; note those that are gone."""
        for found in workers.unfinished(db, self.host):
            process = _process(found.pid, found.process_start)
            slot = next((s for s in self.slots if s.pipeline == found.pipeline and s.process is None), None)
            if process is None:
                workers.ended(db, found.worker, "lost", "the process ended without a word")
            elif slot is None:
                log.info("draining a worker too many %s", fields(worker=found.worker))
                process.terminate()
            else:
                slot.worker, slot.process = found.worker, process
                log.info("adopted %s", fields(worker=found.worker, pid=found.pid))

    def tick(self, db: Connection) -> None:
        """One look at every slot."""
        if not leases.take(db, self._lease, self.holder, self.settings.lease_seconds * 2):
            raise Terminal(f"another supervisor took over on {self.host}; the workers go on under it")
        desired = workers.desired(db)
        for slot in self.slots:
            self._tend(db, slot, desired.get(slot.pipeline, False))

    def _tend(self, db: Connection, slot: Slot, wanted: bool) -> None:
        now = self._clock.monotonic()
        if slot.running():
            if not wanted:
                self._stop(slot)
            else:
                slot.backoff.lived(now)
        elif slot.process is not None:
            self._ended(db, slot, now, wanted)
        elif wanted and slot.backoff.due(now):
            self._start(slot, now)

    def _start(self, slot: Slot, now: float) -> None:
        slot.worker = f"{slot.pipeline}-{slot.number}-{uuid.uuid4().hex[:6]}"
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
        code = slot.exit_code()
        if wanted and not slot.draining:
            pause = slot.backoff.failed(now)
            error = f"ended with code {code}; started again in {pause:.1f} s"
            log.error("worker %s", fields(worker=slot.worker, error=error))
            workers.ended(db, slot.worker or "", "failed", error)
            workers.note_restart(db, slot.pipeline, slot.number, slot.backoff.failures, pause, error)
        else:
            workers.ended(db, slot.worker or "", "stopped")
            slot.backoff = Backoff()
        slot.worker = slot.process = slot.draining = None

    def _stop(self, slot: Slot) -> None:
        if slot.process is None:
            return
        if slot.draining is None:
            log.info("draining %s", fields(worker=slot.worker))
            slot.draining = Deadline.after(_DRAIN_SECONDS)
            with suppress(psutil.NoSuchProcess):  # it ended by itself; the next look sees that
                slot.process.terminate()
        elif slot.draining.passed():
            log.error("did not drain in %s s, killed; nothing is lost %s", _DRAIN_SECONDS, fields(worker=slot.worker))
            with suppress(psutil.NoSuchProcess):
                slot.process.kill()

    def _drain(self, db: Connection) -> None:
        while any(slot.process is not None for slot in self.slots):
            for slot in self.slots:
                self._tend(db, slot, wanted=False)
            self._clock.wait(0.1)

    def stop(self, signum: int, frame: FrameType | None) -> None:
        """SIGTERM: drain the workers, then end."""
        self.stopping.set()


def _process(pid: int, start: float) -> psutil.Process | None:
    """The process with this pid and start time; a recycled pid is somebody else."""
    try:
        process = psutil.Process(pid)
        return process if abs(process.create_time() - start) < 1.0 and _lives(process) else None
    except psutil.NoSuchProcess:
        return None


def _lives(process: psutil.Process) -> bool:
    """Whether a process that may not be our child runs: psutil counts one that nobody has reaped as running."""
    try:
        return bool(process.is_running()) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def run(programs: Mapping[str, PipelineProgram], settings: Settings) -> int:
    """Supervise the workers of `programs` until SIGTERM or SIGINT; returns the exit code."""
    supervisor = Supervisor(programs, settings)
    signal.signal(signal.SIGTERM, supervisor.stop)
    signal.signal(signal.SIGINT, supervisor.stop)
    supervisor.run()
    return 0
