"""A supervisor under test, as a process of its own over a rig."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import psutil

from tests.stream_workers.harness import Rig


class Supervised:
    """A supervisor process of a rig."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, **extra: str) -> subprocess.Popen[bytes]:
        with (self.rig.log_dir / f"supervisor-{len(self.processes)}.log").open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "cli.main", "supervisor", "run"],
                env=self.rig.environment(**{"HEADRACE_HOME": str(self.rig.log_dir), **self._services(), **extra}),
                stdout=out,
                stderr=out,
            )
        self.processes.append(process)
        return process

    def _services(self) -> dict[str, str]:
        return {name: os.environ[name] for name in ("HEADRACE_KAFKA_BOOTSTRAP", "HEADRACE_REGISTRY_URL")}

    def workers(self) -> dict[str, int]:
        """Living worker processes by name."""
        rows = self.rig.query("select worker, pid from ledger.workers where state in ('starting', 'running')")
        return {worker: pid for worker, pid in rows if lives(pid)}

    def log(self) -> bytes:
        """What the newest supervisor has written."""
        return (self.rig.log_dir / f"supervisor-{len(self.processes) - 1}.log").read_bytes()

    def wait(self, done: Callable[[], object], seconds: float = 120) -> None:
        """Wait until `done`, whoever dies meanwhile."""
        self.rig.wait(lambda: bool(done()), seconds, alive=False)

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
                process.wait(40)
        for pid in self.workers().values():
            os.kill(pid, signal.SIGKILL)


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
