"""Switching pipelines without Dagster, the fleet, and what `headrace status` says of both."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.cli.test_errors import headrace
from tests.conftest import Services
from tests.stream_workers.conftest import rig, supervised
from tests.stream_workers.harness import Rig
from tests.stream_workers.supervised import Supervised

__all__ = ["rig", "supervised"]


def environment(rig: Rig, **extra: str) -> dict[str, str]:
    return rig.environment(**{"HEADRACE_HOME": str(rig.log_dir), **extra})


def status(rig: Rig) -> Any:
    return json.loads(headrace("status", "--json", env=environment(rig)).stdout)


def test_an_override_switches_and_ends(supervised: Supervised, rig: Rig) -> None:
    env = environment(rig)
    supervised.start()
    supervised.wait(supervised.workers)
    done = headrace("worker", "stop", "orders", "--for", "2h", "--json", env=env)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["pipeline"], said["on"], said["by"], said["workers"]) == ("orders", False, "override", {})
    assert "no Dagster webserver answers: an override switches orders off until" in done.stderr
    assert not supervised.workers()
    (row,) = status(rig)["pipelines"]
    assert (row["desired"], row["override"]) == ("on", "off")
    left = datetime.fromisoformat(row["override_until"]) - datetime.now(UTC)
    assert timedelta(hours=1.9) < left <= timedelta(hours=2, seconds=5)

    done = headrace("worker", "start", "orders", env=environment(rig, HEADRACE_DAGSTER_URL="http://127.0.0.1:9"))
    assert done.returncode == 0 and "orders is up: orders-0-" in done.stdout, done.stderr
    assert "no Dagster webserver answers" in done.stdout and supervised.workers()

    done = headrace("worker", "stop", "orders", "--for", "8s", env=env)
    assert done.returncode == 0 and "orders is drained; no worker is left" in done.stdout, done.stderr
    supervised.wait(supervised.workers)  # it ends by itself
    assert headrace("worker", "stop", "orders", "--override", env=env).returncode == 0
    done = headrace("worker", "release", "orders", env=env)
    assert done.returncode == 0 and "is over; the toggle says that orders is on" in done.stdout
    supervised.wait(supervised.workers)
    done = headrace("worker", "release", "orders", "--json", env=env)
    assert json.loads(done.stdout) == {"pipeline": "orders", "ended": None, "on": True}
    assert "there was no override" in headrace("worker", "release", "orders", env=env).stdout


def test_nobody_obeys(supervised: Supervised, rig: Rig) -> None:
    env = environment(rig)
    done = headrace("worker", "start", "orders", "--timeout", "0.5", env=env)
    assert done.returncode == 1 and "no supervisor runs that would obey" in done.stderr.splitlines()[-1]
    assert "`headrace supervisor run`" in done.stderr

    rig.start()  # by hand: no supervisor ends it
    rig.wait(lambda: bool(rig.query("select 1 from ledger.workers where state = 'running'")))
    supervised.start()
    supervised.wait(lambda: rig.query("select 1 from ledger.leases where name like 'supervisor:%%'"))
    done = headrace("worker", "stop", "orders", "--timeout", "3", env=env)
    assert done.returncode == 1, done.stdout
    assert "there is still orders-0-" in done.stderr.splitlines()[-1] and "`headrace status`" in done.stderr


def test_a_worker_that_cannot_start_says_why(supervised: Supervised, rig: Rig) -> None:
    rig.query(
        "insert into ledger.table_versions (table_version, table_name, pipeline, state_table, definition)"
        " values ('product_sales@older', 'product_sales', 'orders', 'state.x', '{}') returning 1"
    )
    supervised.start()
    supervised.wait(lambda: rig.query("select 1 from ledger.restarts where failures >= 2"))
    done = headrace("worker", "start", "orders", "--timeout", "0.5", env=environment(rig))
    assert done.returncode == 1 and "lives as product_sales@older" in done.stderr.splitlines()[-1]
    (row,) = status(rig)["restarts"]
    assert row["pipeline"] == "orders" and row["failures"] >= 2 and "ended with code" in row["last_error"]
    shown = headrace("status", env=environment(rig)).stdout
    assert "failures in a row" in shown and "ended with code" in shown


def test_the_fleet_is_shown_and_released(rig: Rig) -> None:
    env = environment(rig)
    assert "fleet: none yet" in headrace("fleet", "show", env=env).stdout
    assert "fleet: none yet" in headrace("status", env=env).stdout
    assert "nobody owns the fleet" in headrace("fleet", "release", env=env).stdout
    rig.query("insert into ledger.fleet values (true, 'one', clock_timestamp() - interval '90 s') returning 1")
    assert "fleet: instance one, last tick 9" in headrace("fleet", "show", env=env).stdout
    assert "fleet: instance one, last tick 9" in headrace("status", env=env).stdout
    shown = json.loads(headrace("fleet", "show", "--json", env=env).stdout)
    assert shown["instance"] == "one" and 90 <= shown["silent_s"] < 100
    assert status(rig)["fleet"]["instance"] == "one"

    done = headrace("fleet", "release", env=env)  # nobody there to answer
    assert done.returncode == 130 and "belongs to instance one, last tick 9" in done.stderr
    assert rig.query("select instance from ledger.fleet") == [("one",)]
    done = headrace("fleet", "release", "--yes", env=env)
    assert done.returncode == 0 and "it belonged to instance one, which last ticked" in done.stdout
    assert rig.query("select * from ledger.fleet") == []
    assert json.loads(headrace("fleet", "release", "--yes", "--json", env=env).stdout) is None


WRITING = (["worker", "stop", "orders"], ["worker", "start", "orders"], ["worker", "release", "orders"])
FLEET = (["fleet", "show"], ["fleet", "release", "--yes"])


@pytest.mark.parametrize("arguments", [*WRITING, *FLEET], ids=" ".join)
def test_no_ledger_is_one_line(stack: Services, database: str, arguments: list[str]) -> None:
    for url, says in ((stack.admin_url, "`headrace provision`"), (None, "`headrace up`")):
        done = headrace(*arguments, env={"HEADRACE_POSTGRES_URL": url} if url else {})
        assert done.returncode == 1 and says in done.stderr
        assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("headrace: "), done.stderr


def test_an_older_ledger_is_one_line(rig: Rig) -> None:
    rig.query("delete from public.headrace_migrations where number >= 4 returning 1")
    for arguments in (*WRITING, *FLEET, ["status"]):
        done = headrace(*arguments, env=environment(rig))
        assert done.returncode == 1 and "older Headrace" in done.stderr and "`headrace provision`" in done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr
