"""`python -m benchmarks.profiled OUT ARGUMENTS...`: the `headrace` command with a stopwatch around each phase.

A few calls per batch are timed, each with the wall clock and with its thread's own CPU clock, exclusive of timed calls
inside it. CPU of librdkafka's threads (fetching, checking, unpacking of record batches) is the kernel's count. Measured
runs do not go through here.
"""

from __future__ import annotations

import functools
import importlib
import json
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import psutil

F = TypeVar("F", bound=Callable[..., Any])

PHASES: dict[str, tuple[str, ...]] = {
    "start: catalog": ("cli.processes:load",),
    "consume": ("stream_workers.source:Consumer.consume",),
    "unpack": ("stream_workers.source:Source.poll",),
    "decode": ("schemas.codec:Decoder.decode",),
    "route": ("stream_workers.routing:Router.route",),
    "late": ("stream_workers.fates:take",),
    "aggregate": ("stream_workers.routing:Router._arrow",),
    "postgres": ("stream_workers.loop:commit",),
    "postgres: rows": ("stream_workers.committing:_merge",),
    "tend": ("stream_workers.loop:Loop._tend",),
    "wait for a batch": ("stream_workers.prefetch:Prefetch.next",),
    "wait for the commit": ("queue:Queue.put",),
}
"""The functions of each phase, `module:path`."""


class Stopwatch:
    """Wall and CPU seconds by (phase, thread name)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spent: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0, 0])
        self._inside = threading.local()

    def around(self, phase: str, function: F) -> F:
        """`function`, timed as part of `phase`."""

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            outer = getattr(self._inside, "below", None)
            self._inside.below = [0.0, 0.0]
            wall, cpu = time.perf_counter(), time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                wall, cpu = time.perf_counter() - wall, time.thread_time() - cpu
                below, self._inside.below = self._inside.below, outer
                if outer is not None:
                    outer[0] += wall
                    outer[1] += cpu
                with self._lock:
                    spent = self._spent[phase, threading.current_thread().name]
                    spent[0] += wall - below[0]
                    spent[1] += cpu - below[1]
                    spent[2] += 1

        return timed  # type: ignore[return-value]  # same signature

    def document(self) -> dict[str, Any]:
        """All that was timed, and the process's CPU seconds."""
        return {
            "cpu_s": _cpu_s(),
            "phases": [
                {"phase": phase, "thread": thread, "wall_s": wall, "cpu_s": cpu, "calls": calls}
                for (phase, thread), (wall, cpu, calls) in self._spent.items()
            ],
        }


def install(watch: Stopwatch) -> None:
    """Put the stopwatch around every function of `PHASES`; AttributeError when one was renamed."""
    for phase, places in PHASES.items():
        for where in places:
            module, path = where.split(":")
            owner: Any = importlib.import_module(module)
            *above, name = path.split(".")
            for part in above:
                owner = _open(owner, part)
            setattr(owner, name, watch.around(phase, getattr(owner, name)))


def _open(owner: Any, name: str) -> Any:
    """The class `name` of a module; one written in C, which cannot be changed, gets a subclass in its place."""
    found = getattr(owner, name)
    if isinstance(found, type) and found.__module__ == "cimpl":
        found = type(name, (found,), {})
        setattr(owner, name, found)
    return found


class Threads:
    """CPU seconds by thread name as the kernel counts them (Linux), looked at twice a second while threads live."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[str, float]] = {}
        threading.Thread(target=self._run, name="profile", daemon=True).start()

    def _run(self) -> None:
        process = psutil.Process()
        while True:
            for thread in process.threads():
                with suppress(OSError):
                    name = Path(f"/proc/self/task/{thread.id}/comm").read_text().strip()
                    self._seen[thread.id] = name, thread.user_time + thread.system_time
            time.sleep(0.5)

    def document(self) -> dict[str, float]:
        """Seconds by name; empty where the kernel does not tell names."""
        names: dict[str, float] = defaultdict(float)
        for name, used in list(self._seen.values()):
            names[name] += used
        return dict(names)


def _cpu_s() -> float:
    used = psutil.Process().cpu_times()
    return float(used.user + used.system)


def main() -> int:
    """Run the command; the profile is written when it has ended."""
    from cli.main import main as headrace

    out, *arguments = sys.argv[1:]
    watch, threads = Stopwatch(), Threads()
    install(watch)
    imports = _cpu_s()
    try:
        return headrace(arguments)
    finally:
        found = watch.document() | {"import_cpu_s": imports, "threads": threads.document()}
        Path(out).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    sys.exit(main())
