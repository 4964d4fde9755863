"""The switch of a pipeline through a real webserver: `headrace worker stop` and `start`, daemon up and down."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli import dagster_services
from headrace.deadline import Deadline
from orchestration import toggles
from orchestration.client import Webserver
from orchestration.names import worker_sensor
from stack import Home, dagster_home, processes
from tests import conftest
from tests.cli.test_errors import headrace
from tests.conftest import Services
from tests.stream_workers.conftest import rig, supervised
from tests.stream_workers.harness import Rig
from tests.stream_workers.supervised import Supervised

__all__ = ["rig", "supervised"]


@pytest.fixture
def place(stack: Services, database: str) -> Iterator[tuple[Home, Webserver]]:
    """A Dagster of the test's own, with an instance of its own, whose definitions are `switches`."""
    folder = Path(tempfile.mkdtemp(prefix="headrace-toggles-")).resolve()
    home, name = Home(folder), f"dagster_{uuid.uuid4().hex[:12]}"
    conftest._make(stack, name)
    url = "postgresql+psycopg2" + conftest._address(stack.postgres_url, name).removeprefix("postgresql")
    try:
        dagster_home.write(home, url)
        dagster_home.prepare_storage(home, url)  # before the code server, which would make the tables too
        dagster_services.start_code_server(home, url, "tests.orchestration.switches")
        dagster_services.start_webserver(home, url)
        webserver, _ = dagster_services.wait(home, Deadline.after(180))
        yield home, webserver
    finally:
        dagster_services.stop(home, list(dagster_services.NAMES))
        conftest._drop(stack, name)
        shutil.rmtree(folder, ignore_errors=True)


def test_a_pipeline_is_switched_through_the_webserver(
    place: tuple[Home, Webserver], supervised: Supervised, rig: Rig, stack: Services
) -> None:
    home, webserver = place
    env = rig.environment(HEADRACE_HOME=str(rig.log_dir), HEADRACE_DAGSTER_URL=webserver.url)

    def toggle() -> bool:
        found = toggles.find(webserver, "orders_worker")
        assert found is not None
        return found.on

    supervised.start()
    supervised.wait(supervised.workers)
    done = headrace("worker", "stop", "orders", env=env)
    assert done.returncode == 0, done.stderr
    assert f"the toggle of orders in Dagster at {webserver.url} is off" in done.stdout
    assert "orders is drained" in done.stdout and not supervised.workers() and not toggle()
    assert rig.query("select desired, override from ledger.pipelines") == [("off", None)]

    done = headrace("worker", "start", "orders", "--json", env=env)
    assert done.returncode == 0, done.stderr
    assert '"by": "toggle"' in done.stdout and supervised.workers() and toggle()

    done = headrace("worker", "stop", "orders", "--override", "--for", "2h", env=env)
    assert done.returncode == 0 and "an override switches orders off until" in done.stdout, done.stderr
    assert toggle() and not supervised.workers()
    done = headrace("worker", "start", "orders", env=env)
    assert done.returncode == 0 and "the override until" in done.stdout, done.stderr
    assert rig.query("select override from ledger.pipelines") == [(None,)] and supervised.workers()

    done = headrace("worker", "stop", "orders", "--for", "2h", env=env)
    assert done.returncode == 1 and "add --override" in done.stderr and toggle()

    owner = rig.query("select instance from ledger.fleet")[0][0]
    rig.query("update ledger.fleet set instance = 'another' returning 1")
    supervised.wait(lambda: word(webserver) == "another instance owns the fleet")
    done = headrace("worker", "stop", "orders", "--timeout", "1", env=env)
    assert done.returncode == 1 and not toggle() and supervised.workers()
    line = done.stderr.splitlines()[-1]
    assert "the fleet of instance another last ticked" in line and "another instance owns the fleet" in line
    assert "`headrace fleet release`" in line and "--override" in line
    done = headrace("fleet", "release", "--yes", env=env)
    assert done.returncode == 0 and "it belonged to instance another" in done.stdout
    supervised.wait(lambda: not supervised.workers())  # the toggle was off all the time
    assert rig.query("select instance from ledger.fleet") == [(owner,)]

    processes.kill(dagster_services.DAEMON, home=home)
    done = headrace("worker", "start", "orders", "--timeout", "1", env=env)
    assert done.returncode == 1 and "is the Dagster daemon up?" in done.stderr and not supervised.workers()
    done = headrace("worker", "start", "orders", "--override", env=env)
    assert done.returncode == 0 and supervised.workers(), done.stderr

    renamed = {**env, "HEADRACE_CATALOG": "tests.catalogs_renamed"}
    done = headrace("worker", "stop", "a-b.c", env=renamed)
    assert done.returncode == 1 and "has no sensor a_b_c_worker; nothing was switched" in done.stderr
    assert "`headrace worker stop a-b.c --override`" in done.stderr


def word(webserver: Webserver) -> str | None:
    sensor = toggles.find(webserver, "fleet")
    assert sensor is not None
    return toggles.last_word(webserver, sensor)


def test_names_of_sensors() -> None:
    assert worker_sensor("orders") == "orders_worker"
    assert worker_sensor("a-b.c d") == "a_b_c_d_worker"
