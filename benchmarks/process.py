"""A command of ours as a process of its own: its CPU time is the kernel's number, threads included.

Its memory is looked at again and again: the kernel's own maximum begins with that of the process that started it.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from headrace.errors import ServiceFailed
from headrace.logging import redact
from headrace.settings import ROOT


@dataclass(frozen=True)
class Use:
    """What a process used in its life: user and system CPU seconds, largest resident memory seen in MB."""

    cpu_s: float
    peak_rss_mb: float


@dataclass
class Process:
    """A running process; its output goes to `log`."""

    name: str
    log: Path
    _child: subprocess.Popen[bytes]
    _usage: resource.struct_rusage | None = field(default=None)
    _peak: int = 0

    @classmethod
    def start(cls, name: str, argv: Sequence[str], env: Mapping[str, str], folder: Path) -> Process:
        """Start `python -m argv` in the checkout, with `env` added to the environment."""
        log = folder / f"bench-{name}.log"
        with log.open("wb") as output:
            child = subprocess.Popen(
                [sys.executable, "-m", *argv],
                cwd=ROOT,
                env={**os.environ, **env},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the benchmark alone, which stops it in order
            )
        return cls(name, log, child)

    def cpu_s(self) -> float:
        """CPU seconds used so far."""
        try:
            used = psutil.Process(self._child.pid).cpu_times()
        except psutil.Error:
            return 0.0
        return float(used.user + used.system)

    def ended(self) -> bool:
        """Whether it has ended; also a look at its memory."""
        if self._usage is None:
            with suppress(psutil.Error):
                self._peak = max(self._peak, psutil.Process(self._child.pid).memory_info().rss)
            pid, status, usage = os.wait4(self._child.pid, os.WNOHANG)
            if pid:
                self._usage, self._child.returncode = usage, os.waitstatus_to_exitcode(status)
        return self._usage is not None

    def terminate(self) -> None:
        """Ask it to end in good order."""
        if not self.ended():
            self._child.terminate()

    def wait(self, seconds: float) -> Use:
        """What it used in all, once it has ended; `ServiceFailed` when it does not end well within `seconds`."""
        until = time.monotonic() + seconds
        while not self.ended():
            if time.monotonic() > until:
                raise self.failed(f"did not end within {seconds:.0f} s")
            time.sleep(0.01)
        if self._child.returncode:
            raise self.failed(f"ended with exit code {self._child.returncode}")
        assert self._usage is not None
        return Use(self._usage.ru_utime + self._usage.ru_stime, self._peak / 1e6)

    def kill(self) -> None:
        """Leave nothing behind, whatever state it is in."""
        if not self.ended():
            self._child.kill()
            while not self.ended():
                time.sleep(0.01)

    def failed(self, what: str) -> ServiceFailed:
        """The error for a process that did not do its work, with the end of its log."""
        lines = redact(self.log.read_text(errors="replace")).splitlines()[-15:]
        return ServiceFailed(f"{self.name} {what}; its last log lines:\n" + "\n".join(lines))
