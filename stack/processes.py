"""Long-running processes by name: start, stop, look. Used for the services and for Headrace's own processes.

Each runs in a session of its own: Ctrl-C in a terminal reaches only the command, which may then stop them in order.
A pid file holds the pid and when that process started: a recycled pid is never taken for ours, hence never killed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from headrace.clock import SYSTEM_CLOCK
from headrace.deadline import Deadline
from headrace.errors import ServiceFailed
from headrace.logging import redact
from stack.home import Home, read_json, write_private

# Start times are compared as seconds since boot, which a set clock does not move; the kernel's boot time is in seconds.
_TOLERANCE = 2.0
_POLL = 0.05
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True)
class User:
    """An account to run a process as."""

    uid: int
    gid: int


@dataclass(frozen=True)
class Running:
    """A process that is up: pid, seconds since it started, resident memory of it and its children in bytes."""

    name: str
    pid: int
    uptime: float
    rss: int


def start(
    name: str,
    argv: Sequence[str | Path],
    env: Mapping[str, str] | None = None,
    *,
    home: Home | None = None,
    cwd: Path | None = None,
    user: User | None = None,
    stop_signal: signal.Signals = signal.SIGTERM,
) -> int:
    """Start a process and return its pid; one that is already up is left alone. `env` is added to the environment.

    Raises `ServiceFailed` when the program cannot be executed.
    """
    home = home or Home()
    running = find(name, home=home)
    if running:
        return running.pid
    stop(name, home=home)  # a crashed one may have left children
    log = home.log_file(name)
    if log.exists():
        log.replace(log.with_suffix(".log.1"))
    account = {"user": user.uid, "group": user.gid, "extra_groups": []} if user else {}
    try:
        with log.open("wb") as output:
            child: subprocess.Popen[bytes] = subprocess.Popen(
                [str(part) for part in argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                cwd=cwd,
                start_new_session=True,
                **account,  # type: ignore[call-overload]
            )
    except OSError as error:
        raise ServiceFailed(f"{name} cannot be started: {error}; run `headrace doctor`") from error
    _children[child.pid] = child
    born = _born(psutil.Process(child.pid)) if child.poll() is None else 0.0
    write_private(home.pid_file(name), json.dumps({"pid": child.pid, "born": born, "stop": int(stop_signal)}))
    return child.pid


def find(name: str, *, home: Home | None = None) -> Running | None:
    """The process if it is up, else None."""
    home = home or Home()
    process = _process(home, name)
    if process is None:
        return None
    try:
        uptime = max(0.0, SYSTEM_CLOCK.now().timestamp() - process.create_time())
        family = (process, *process.children(recursive=True))
    except psutil.Error:
        return None
    return Running(name, process.pid, uptime, sum(map(_rss, family)))


def _rss(process: psutil.Process) -> int:
    """Resident memory; 0 for a process that ended meanwhile, as the children of a server do all the time."""
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def alive(name: str, *, home: Home | None = None) -> bool:
    """Whether the process is up."""
    return _process(home or Home(), name) is not None


def stop(name: str, *, home: Home | None = None, timeout: float = 20.0) -> bool:
    """Stop the process and everything it started; True if there was something to stop.

    It gets its stop signal, and after `timeout` seconds SIGKILL.
    """
    home = home or Home()
    members = _members(home, name)
    leader = _process(home, name)
    if leader is not None:
        _signal(leader, signal.Signals(read_json(home.pid_file(name)).get("stop", signal.SIGTERM)))
        _wait([leader], timeout)
    # What the leader left behind: no second chance to leave in good order, but a moment for it.
    left = {p.pid: p for p in (*members, *_members(home, name)) if p.is_running() and not _zombie(p)}
    for process in left.values():
        _signal(process, signal.SIGTERM)
    for process in _wait(list(left.values()), 2.0 if left else 0.0):
        _signal(process, signal.SIGKILL)
    _wait(list(left.values()), 5.0)
    home.pid_file(name).unlink(missing_ok=True)
    return bool(members)


def kill(name: str, *, home: Home | None = None) -> None:
    """SIGKILL for the process, as a crash would end it. For fault tests."""
    home = home or Home()
    process = _process(home, name)
    if process is not None:
        _signal(process, signal.SIGKILL)
        _wait([process], 10.0)


def tail(name: str, lines: int = 20, *, home: Home | None = None) -> str:
    """The last lines of the process's log, without passwords."""
    try:
        with (home or Home()).log_file(name).open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 64_000))
            text = log.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return redact("\n".join(text.splitlines()[-lines:]))


def wait_ready(
    name: str,
    ready: Callable[[], bool],
    deadline: Deadline,
    *,
    home: Home | None = None,
    stopped: Callable[[], bool] | None = None,
) -> None:
    """Return once `ready()`; raises `ServiceFailed` with the log's end as soon as the process is gone or time is up."""
    home = home or Home()
    while True:
        up = alive(name, home=home)
        if up and ready():
            return
        if not up:
            raise ServiceFailed(_obituary(home, name, "ended before it was ready"))
        if deadline.passed():
            raise ServiceFailed(_obituary(home, name, "did not get ready in time and is still running"))
        if stopped is not None and stopped():
            raise ServiceFailed(f"{name}: start was interrupted; `headrace down` stops what is running")
        deadline.clock.wait(_POLL)


def names(home: Home | None = None) -> list[str]:
    """Names of all processes with a pid file."""
    return sorted(file.stem for file in (home or Home()).folder("run").glob("*.json"))


def _obituary(home: Home, name: str, what: str) -> str:
    log = tail(name, home=home) or "(it wrote nothing)"
    return f"{name} {what}; its last log lines:\n{log}\nthe whole log: {home.log_file(name)}; then `headrace doctor`"


def _born(process: psutil.Process) -> float:
    return float(process.create_time() - psutil.boot_time())


def _zombie(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True


def _process(home: Home, name: str) -> psutil.Process | None:
    """The process of the pid file, if it is that very one and still runs."""
    known = read_json(home.pid_file(name))
    if not known:
        return None
    child = _children.get(known["pid"])
    if child is not None and child.poll() is not None:
        del _children[known["pid"]]
        return None
    try:
        process = psutil.Process(known["pid"])
        if abs(_born(process) - known["born"]) > _TOLERANCE or _zombie(process):
            return None
        return process
    except psutil.Error:
        return None


def _members(home: Home, name: str) -> list[psutil.Process]:
    """Every process of the session that the pid file's process leads or led.

    The kernel gives nobody a pid that is still some session's id. So a process with that pid which is not ours means
    that the session is gone.
    """
    known = read_json(home.pid_file(name))
    if not known:
        return []
    pid = known["pid"]
    if _process(home, name) is None and psutil.pid_exists(pid) and not _is_zombie_of(pid, known["born"]):
        return []
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == pid and not _zombie(process) and _born(process) >= known["born"] - _TOLERANCE:
                found.append(process)
        except (OSError, psutil.Error):
            continue
    return found


def _is_zombie_of(pid: int, born: float) -> bool:
    try:
        return abs(_born(psutil.Process(pid)) - born) <= _TOLERANCE
    except psutil.Error:
        return True


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.Error:
        return


def _wait(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Those that still run after `seconds`; finished children of this process are reaped."""
    _gone, left = psutil.wait_procs(processes, timeout=seconds)
    return [process for process in left if not _zombie(process)]
