"""Processes by name: nothing is left behind, nothing that is not ours is touched."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable

import psutil
import pytest

import stack as services
from headrace.deadline import Deadline
from headrace.errors import ServiceFailed
from stack import processes
from stack.home import read_json, write_private

NewHome = Callable[..., services.Home]
SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


def test_start_find_stop(new_home: NewHome) -> None:
    home = new_home()
    pid = processes.start("sleeper", SLEEP, home=home)
    assert processes.start("sleeper", SLEEP, home=home) == pid
    found = processes.find("sleeper", home=home)
    assert found and found.pid == pid and found.rss > 0
    assert processes.names(home) == ["sleeper"]
    assert processes.stop("sleeper", home=home)
    assert not psutil.pid_exists(pid)
    assert not processes.stop("sleeper", home=home)
    assert processes.names(home) == []


def test_a_process_that_ignores_its_signal_is_killed(new_home: NewHome) -> None:
    home = new_home()
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    pid = processes.start("stubborn", [sys.executable, "-c", stubborn], home=home)
    processes.wait_ready(
        "stubborn", lambda: "up" in processes.tail("stubborn", home=home), Deadline.after(10), home=home
    )
    assert processes.stop("stubborn", home=home, timeout=0.3)
    assert not psutil.pid_exists(pid)


def test_children_of_a_crashed_process_are_stopped(new_home: NewHome) -> None:
    home = new_home()
    parent = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)"
    )
    processes.start("parent", [sys.executable, "-c", parent], home=home)
    processes.wait_ready("parent", lambda: bool(processes.tail("parent", home=home)), Deadline.after(10), home=home)
    child = int(processes.tail("parent", home=home))
    processes.kill("parent", home=home)
    assert psutil.pid_exists(child)
    processes.stop("parent", home=home)
    assert not _runs(child)


def test_a_recycled_pid_is_not_killed(new_home: NewHome) -> None:
    home = new_home()
    stranger = subprocess.Popen(SLEEP, start_new_session=True)
    try:
        processes.start("service", SLEEP, home=home)
        known = read_json(home.pid_file("service"))
        processes.stop("service", home=home)
        # The service died long ago and the kernel gave its pid to somebody else, who even leads a session.
        write_private(home.pid_file("service"), json.dumps(known | {"pid": stranger.pid, "born": known["born"] - 3600}))
        assert not processes.alive("service", home=home)
        assert not processes.stop("service", home=home)
        assert stranger.poll() is None
        assert processes.names(home) == []
    finally:
        stranger.kill()
        stranger.wait()


def test_a_death_before_readiness_tells_the_last_lines_at_once(new_home: NewHome) -> None:
    home = new_home()
    code = "print('listening on postgresql://me:hunter2@host/db'); raise SystemExit('port 1 is taken')"
    processes.start("broken", [sys.executable, "-c", code], home=home)
    began = time.monotonic()
    with pytest.raises(ServiceFailed) as caught:
        processes.wait_ready("broken", lambda: False, Deadline.after(60), home=home)
    assert time.monotonic() - began < 30
    assert "port 1 is taken" in str(caught.value)
    assert str(home.log_file("broken")) in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_time_is_up(new_home: NewHome) -> None:
    home = new_home()
    processes.start("slow", SLEEP, home=home)
    with pytest.raises(ServiceFailed, match="did not get ready in time"):
        processes.wait_ready("slow", lambda: False, Deadline.after(0.2), home=home)


def test_a_program_that_is_not_there(new_home: NewHome) -> None:
    with pytest.raises(ServiceFailed, match="cannot be started"):
        processes.start("nothing", ["/does/not/exist"], home=new_home())


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_child_that_ends_while_memory_is_counted_hides_nobody(
    new_home: NewHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = new_home()
    pid = processes.start("sleeper", SLEEP, home=home)
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    gone = psutil.Process(child.pid)
    child.wait()
    monkeypatch.setattr(psutil.Process, "children", lambda self, recursive=False: [gone])
    found = processes.find("sleeper", home=home)
    assert found and found.pid == pid and found.rss > 0
    monkeypatch.undo()
    assert processes.stop("sleeper", home=home)
