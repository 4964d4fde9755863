"""What could be wrong with this machine or with the services, each with the command that helps."""

from __future__ import annotations

import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import psutil

from headrace.errors import HeadraceError
from stack import artifacts, java, ports, processes
from stack.home import Endpoints, Home
from stack.local import SERVICES, services_wanted

_DISK_BYTES = 5 * 10**9
_MEMORY_BYTES = 2 * 10**9


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: whether it is in order, what was seen, and what to do if it is not."""

    name: str
    ok: bool
    message: str
    remedy: str = ""


def doctor(home: Home | None = None) -> list[Finding]:
    """Look at everything the local services need. Starts and changes nothing."""
    home = home or Home()
    return [*_machine(home), *_programs(), *_processes(home), *_services(home)]


def _machine(home: Home) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding(
        "python", (3, 11) <= sys.version_info[:2] <= (3, 13), f"Python {version}", "use 3.11 to 3.13: make setup"
    )
    place = home.root if home.root.exists() else home.root.parent
    while not place.exists():
        place = place.parent
    room = shutil.disk_usage(place).free
    yield Finding(
        "disk",
        room > _DISK_BYTES,
        f"{room / 1e9:.1f} GB free for {home.root}",
        "free 5 GB or set HEADRACE_HOME elsewhere",
    )
    memory = psutil.virtual_memory().available
    yield Finding(
        "memory", memory > _MEMORY_BYTES, f"{memory / 1e9:.1f} GB available", "stop other programs: 2 GB are needed"
    )
    for file in (home.root / "secrets.json", home.endpoints_file):
        if file.exists():
            private = not file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
            yield Finding(
                "secrets",
                private,
                f"{file.name} is {'private' if private else 'readable by others'}",
                f"chmod 600 {file}",
            )


def _programs() -> Iterator[Finding]:
    try:
        done = subprocess.run([java.executable(), "-version"], capture_output=True, text=True, check=False, timeout=30)
        yield Finding("java", done.returncode == 0, (done.stderr.splitlines() or ["no answer"])[0], "make setup")
    except (HeadraceError, OSError, subprocess.TimeoutExpired) as error:
        yield Finding("java", False, str(error), "rm -rf .venv, then make setup")
    missing = artifacts.missing_bytes()
    if missing:
        yield Finding("downloads", True, f"{missing / 1e6:.0f} MB will be downloaded by the next `headrace up`")
    damaged = artifacts.damaged()
    yield Finding(
        "jars",
        not damaged,
        f"not as locked: {', '.join(damaged)}" if damaged else f"as locked, in {artifacts.cache_dir()}",
        f"rm -r {artifacts.folder('kafka')}, then headrace up",
    )


def _processes(home: Home) -> Iterator[Finding]:
    for name in processes.names(home):
        up = processes.alive(name, home=home)
        last = processes.tail(name, 1, home=home)
        yield Finding(
            name,
            up,
            "running" if up else f"ended without being stopped; last log line: {last or '(none)'}",
            f"look at {home.log_file(name)}, then headrace up",
        )


def _services(home: Home) -> Iterator[Finding]:
    wanted = services_wanted(None, Endpoints.given())
    for name in SERVICES:
        if name not in wanted:
            yield Finding(name, True, "an existing one, given by the environment")
            continue
        port = ports.remembered(home, name) or ports.PREFERRED[name]
        up = processes.alive(name, home=home)
        if up and not ports.answers(port):
            yield Finding(
                name,
                False,
                f"running, but port {port} does not answer",
                f"see {home.log_file(name)}; headrace down; headrace up",
            )
        elif not up and ports.answers(port):
            yield Finding(name, True, f"down; port {port} is held by another program, the next free one will be used")
        elif not up:
            yield Finding(name, True, "down; headrace up starts it")
