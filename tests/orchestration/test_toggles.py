"""The switch of a pipeline through a real webserver: `headrace worker stop` and `start`, daemon up and down."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cli import dagster_services, switching
from ledger import connect
from orchestration import toggles
from orchestration.client import Webserver
from orchestration.names import worker_sensor
from tests.cli.test_errors import headrace
from tests.conftest import Services
from tests.orchestration.live import Live, dagster_over
from tests.stream_workers.conftest import rig, supervised
from tests.stream_workers.harness import Rig
from tests.stream_workers.supervised import Supervised

__all__ = ["rig", "supervised"]


@pytest.fixture
def live(rig: Rig, stack: Services, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    with dagster_over(rig, stack, monkeypatch) as found:
        yield found


def test_a_pipeline_is_switched_through_the_webserver(live: Live, supervised: Supervised, rig: Rig) -> None:
    webserver = live.webserver
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

    with connect(rig.database) as db:
        switched = switching.by_toggle(db, webserver, "orders", False)
        assert toggles.keep(webserver, "orders_worker", True)  # as the daemon does when a tick was under way
        said: list[str] = []
        assert switching.wait(db, switched, 120, said.append, webserver) == {}
        assert any("the toggle had gone back" in line for line in said) and not toggle()
        switched = switching.by_toggle(db, webserver, "orders", True)
        assert switching.wait(db, switched, 120, said.append, webserver)

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
    supervised.wait(lambda: "belong to the Dagster instance another" in (word(webserver) or ""))
    done = headrace("worker", "stop", "orders", "--timeout", "1", env=env)
    assert done.returncode == 1 and not toggle() and supervised.workers()
    line = done.stderr.splitlines()[-1]
    assert "the fleet of instance another last ticked" in line and "belong to the Dagster instance another" in line
    assert "`headrace fleet release`" in line and "--override" in line
    done = headrace("fleet", "release", "--yes", env=env)
    assert done.returncode == 0 and "it belonged to instance another" in done.stdout
    supervised.wait(lambda: not supervised.workers())  # the toggle was off all the time
    assert rig.query("select instance from ledger.fleet") == [(owner,)]

    live.kill(dagster_services.DAEMON)
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
