"""Workers are kept as the ledger says, whoever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

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
                env=self.rig.environment(HEADRACE_HOME=str(self.rig.log_dir), **self._services(), **extra),
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
        return {worker: pid for worker, pid in rows if _lives(pid)}

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
                process.wait(40)
        for pid in self.workers().values():
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def supervised(rig: Rig) -> Iterator[Supervised]:
    found = Supervised(rig)
    try:
        yield found
    finally:
        found.close()


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _wait(supervised: Supervised, done: object, seconds: float = 40) -> None:
    assert callable(done)
    supervised.rig.wait(lambda: bool(done()), seconds, alive=False)


def test_starts_restarts_adopts_and_drains(supervised: Supervised, rig: Rig, seed: int) -> None:
    first = supervised.start()
    _wait(supervised, lambda: len(supervised.workers()) == 1)
    rig.produce(seed, 2000, ["negative"])
    (pid,) = supervised.workers().values()
    os.kill(pid, signal.SIGKILL)
    _wait(supervised, lambda: list(supervised.workers().values()) not in ([pid], []))
    _wait(supervised, rig.level)
    assert rig.query("select failures from ledger.restarts") == [(1,)]

    (before,) = supervised.workers().items()
    first.kill()
    first.wait()
    rig.produce(seed + 1, 1000)
    _wait(supervised, rig.level)
    second = supervised.start()
    _wait(supervised, lambda: b"adopted" in (rig.log_dir / "supervisor-1.log").read_bytes())
    assert list(supervised.workers().items()) == [before]

    rig.query("update ledger.pipelines set desired = 'off' returning 1")
    stopped = "select 1 from ledger.workers where worker = %s and state = 'stopped'"
    _wait(supervised, lambda: rig.query(stopped, before[0]))
    _wait(supervised, lambda: not _lives(before[1]))
    rig.query("update ledger.pipelines set desired = 'on' returning 1")
    _wait(supervised, lambda: len(supervised.workers()) == 1)

    second.terminate()
    assert second.wait(40) == 0
    assert not supervised.workers()
    assert rig.query("select * from ledger.leases") == []
    rig.verify()


def test_a_second_supervisor_of_the_host_says_so(supervised: Supervised) -> None:
    supervised.start()
    _wait(supervised, lambda: len(supervised.workers()) == 1)
    second = supervised.start()
    _wait(supervised, lambda: second.poll() is not None)
    assert second.returncode == 1
    text = (supervised.rig.log_dir / "supervisor-1.log").read_text()
    assert "another supervisor runs on" in text
    assert "Traceback" not in text


def test_a_worker_of_a_changed_declaration_is_not_started_in_a_tight_loop(supervised: Supervised, rig: Rig) -> None:
    rig.query(
        "insert into ledger.table_versions (table_version, table_name, pipeline, state_table, definition)"
        " values ('product_sales@older', 'product_sales', 'orders', 'state.x', '{}') returning 1"
    )
    supervised.start()
    _wait(supervised, lambda: rig.query("select 1 from ledger.restarts where failures >= 2"))
    errors = rig.query("select last_error from ledger.workers order by started_at")
    assert any("lives as product_sales@older" in (error or "") for (error,) in errors)
