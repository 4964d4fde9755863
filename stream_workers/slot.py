"""A place for one worker process of a pipeline, and how processes are told apart."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field

import psutil

from headrace.deadline import Deadline
from stream_workers.backoff import Backoff


@dataclass
class Slot:
    """One of the N places for a worker of a pipeline. `draining`: until when a worker told to end may take."""

    pipeline: str
    number: int
    backoff: Backoff = field(default_factory=Backoff)
    worker: str | None = None
    process: psutil.Process | None = None
    draining: Deadline | None = None

    def running(self) -> bool:
        """Whether its process lives; a zombie of ours does not."""
        if self.process is None:
            return False
        if isinstance(self.process, psutil.Popen):
            return self.process.poll() is None
        return lives(self.process)

    def exit_code(self) -> int | None:
        """How its process ended, None for one that another supervisor started."""
        return self.process.poll() if isinstance(self.process, psutil.Popen) else None

    def new_name(self) -> str:
        """A name for its next worker, by which every supervisor knows it again."""
        return f"{self.pipeline}-{self.number}-{uuid.uuid4().hex[:6]}"

    def named(self, worker: str) -> bool:
        """Whether a worker of this name was started for this place."""
        return re.fullmatch(rf"{re.escape(self.pipeline)}-{self.number}-[0-9a-f]{{6}}", worker) is not None


def supervised(pipeline: str, worker: str) -> bool:
    """Whether a supervisor started the worker; a worker that a person started is that person's."""
    return re.fullmatch(rf"{re.escape(pipeline)}-\d+-[0-9a-f]{{6}}", worker) is not None


def process(pid: int, start: float) -> psutil.Process | None:
    """The process with this pid and start time; a recycled pid is somebody else."""
    try:
        found = psutil.Process(pid)
        return found if abs(found.create_time() - start) < 1.0 and lives(found) else None
    except psutil.NoSuchProcess:
        return None


def lives(process: psutil.Process) -> bool:
    """Whether a process that may not be our child runs: psutil counts one that nobody has reaped as running."""
    try:
        return bool(process.is_running()) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
