"""A Dagster of a test's own over a rig's pipeline: real definitions, an instance of its own, everything killable."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from cli import dagster_services
from headrace.deadline import Deadline
from orchestration import toggles
from orchestration.client import Location, Webserver
from stack import Home, dagster_home, processes
from tests import conftest
from tests.conftest import Services
from tests.stream_workers.harness import Rig


@dataclass
class Live:
    """Code server, webserver and daemon, and the rig they look after."""

    rig: Rig
    home: Home
    postgres_url: str
    webserver: Webserver
    location: Location

    def kill(self, name: str) -> None:
        """SIGKILL one of Dagster's processes."""
        processes.kill(name, home=self.home)

    def start(self) -> None:
        """Start what is not up and wait for the definitions."""
        dagster_services.start_code_server(self.home, self.postgres_url)
        dagster_services.start_webserver(self.home, self.postgres_url)
        self.webserver, self.location = dagster_services.wait(self.home, Deadline.after(180))

    def flipped(self, on: bool) -> bool:
        """Whether the toggle of the pipeline is so; if not it is flipped, as a click does."""
        return not toggles.keep(self.webserver, "orders_worker", on)

    def ticked(self) -> object:
        """When the fleet ticked last."""
        return self.rig.query("select ticked_at from ledger.fleet")

    def processes(self) -> set[int]:
        """Pids of every worker process of this rig, whatever the ledger says."""
        return {process.pid for process in psutil.process_iter() if _is_worker(process, self.rig.topic)}


def _is_worker(process: psutil.Process, topic: str) -> bool:
    try:
        words = process.cmdline()
        return "worker" in words and "run" in words and process.environ().get("TEST_TOPIC") == topic
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return False


@contextmanager
def dagster_over(rig: Rig, stack: Services, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    """Bring Dagster up over the rig's catalog and database; everything is gone at the end."""
    for name, value in rig.environment().items():
        monkeypatch.setenv(name, value)
    folder = Path(tempfile.mkdtemp(prefix="headrace-live-")).resolve()
    home, name = Home(folder), f"dagster_{uuid.uuid4().hex[:12]}"
    conftest._make(stack, name)
    url = conftest._address(stack.postgres_url, name).replace("postgresql://", "postgresql+psycopg2://")
    try:
        dagster_home.write(home, url)
        dagster_home.prepare_storage(home, url)  # before the code server, which would make the tables too
        live = Live(rig, home, url, Webserver(""), Location("", ""))
        live.start()
        yield live
    finally:
        for process in reversed(dagster_services.NAMES):
            print(process, processes.tail(process, home=home))
        dagster_services.stop(home, list(dagster_services.NAMES))
        conftest._drop(stack, name)
        shutil.rmtree(folder, ignore_errors=True)
