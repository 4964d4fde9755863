"""`dg dev`, `dagster dev` and `dg check defs` as a person types them, in a copy of the checkout with its own home."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cli.dagster_services import LOCATION
from headrace.deadline import Deadline
from headrace.errors import ServiceUnavailable
from orchestration.client import Location, Webserver
from stack import Home, dagster_home
from tests.conftest import Services

ROOT = Path(__file__).parents[2]
_LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", ".env", ".headrace", "data", "tests", "docs", "__pycache__", ".*_cache"
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the checkout as a fresh clone has it, with the environment that `scripts/bootstrap` would make."""
    copy = tmp_path / "checkout"
    shutil.copytree(ROOT, copy, ignore=_LEFT_OUT)
    (copy / ".venv").symlink_to(Path(sys.prefix))
    return copy


def clean(home: Path, **given: str) -> dict[str, str]:
    """The environment of a new terminal, of a user whose home is `home`: what Dagster needs comes from .env alone."""
    dropped = ("DAGSTER_", "HEADRACE_", "PYTHONPATH", "VIRTUAL_ENV")
    return {key: value for key, value in os.environ.items() if not key.startswith(dropped)} | {
        "HOME": str(home),
        **given,
    }


def test_dg_check_defs_in_a_fresh_clone_without_services(checkout: Path) -> None:
    (checkout / ".env").write_text("DAGSTER_HOME=/nonexistent/dagster\n")  # of services that are down
    script = checkout / "scripts" / "check-defs"
    done = subprocess.run([script], env=clean(checkout.parent), capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "all definitions load" in done.stdout, done.stderr
    with (checkout / "orchestration" / "definitions.py").open("a") as file:
        file.write("\nraise RuntimeError('planted')\n")
    done = subprocess.run([script], env=clean(checkout.parent), capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "RuntimeError: planted" in done.stderr


@pytest.fixture
def family() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that are ended with all their children, whatever happens."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        everyone = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        process.send_signal(signal.SIGINT)  # Ctrl-C
        _, left = psutil.wait_procs(everyone, timeout=30)
        for one in left:
            one.kill()
        process.wait(10)


@pytest.mark.parametrize("command", ["dg", "dagster"])
def test_dev_by_hand_serves_the_definitions(
    command: str,
    checkout: Path,
    stack: Services,
    dagster_database: str,
    family: list[subprocess.Popen[bytes]],
) -> None:
    place = Home(checkout / ".headrace")
    dagster_home.write(place, dagster_database, checkout=checkout)
    dagster_home.prepare_storage(place, dagster_database)
    (checkout / "data" / "landing").mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    log = checkout / "dev.log"
    with log.open("wb") as output:
        family.append(
            subprocess.Popen(
                [checkout / ".venv" / "bin" / command, "dev", "-h", "127.0.0.1", "-p", port],
                cwd=checkout,
                env=clean(checkout.parent, HEADRACE_KAFKA_BOOTSTRAP=stack.kafka_bootstrap, PYTHONUNBUFFERED="1"),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        )
    webserver = Webserver(f"http://127.0.0.1:{port}")
    location = wait(webserver, family[0], log)
    assert location.name == LOCATION  # toggles, cursors and backfills belong to a location's name
    keys = {"/".join(node["assetKey"]["path"]) for node in webserver.assets()}
    assert {"kafka/order-created-events", "postgres/product_sales", "files/orders_csv"} <= keys, location
    assert webserver.query("{ instance { info } }")["instance"]["info"].count("retry_on_asset_or_op_failure") == 1


def wait(webserver: Webserver, process: subprocess.Popen[bytes], log: Path) -> Location:
    """The code location once it is loaded; fails at once when the process ends."""
    deadline = Deadline.after(180)
    while True:
        assert process.poll() is None and not deadline.passed(), log.read_text()[-4000:]
        try:
            location = webserver.location()
        except ServiceUnavailable:
            location = None
        if location:
            return location
        deadline.clock.wait(0.3)
