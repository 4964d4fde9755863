"""Daemon, webserver, supervisor are killed in turn while records flow: workers go on, none is doubled, all adds up."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator

import pytest

from cli import dagster_services
from headrace.deadline import Deadline
from tests.conftest import Services
from tests.orchestration.live import Live, dagster_over
from tests.stream_workers.conftest import rig, supervised
from tests.stream_workers.harness import Rig
from tests.stream_workers.supervised import Supervised

__all__ = ["rig", "supervised"]

SUPERVISOR = "supervisor"


@pytest.fixture
def live(rig: Rig, stack: Services, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    with dagster_over(rig, stack, monkeypatch) as found:
        yield found


class Load:
    """Orders, good and bad, in transactions, all the time."""

    def __init__(self, rig: Rig, seed: int) -> None:
        self._rig, self._seed = rig, seed
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._failed: list[Exception] = []

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stop.wait(0.3):
                self._seed += 1
                self._rig.produce(self._seed, 300, ["negative", "truncated"], per_transaction=150)
        except Exception as error:
            self._failed.append(error)

    def consumed_since(self, before: int) -> bool:
        """Whether workers have taken more; raises what ended the load."""
        if self._failed:
            raise self._failed[0]
        return consumed(self._rig) > before


def consumed(rig: Rig) -> int:
    return int(rig.query("select coalesce(sum(consumed), 0)::bigint from ledger.positions")[0][0])


@pytest.mark.timeout(3_000)
def test_killed_in_turn_under_load(live: Live, supervised: Supervised, rig: Rig, rounds: int, seed: int) -> None:
    rng = random.Random(seed)
    victims = [dagster_services.DAEMON, dagster_services.WEBSERVER, SUPERVISOR]
    supervisor = supervised.start()
    supervised.wait(supervised.workers)
    supervised.wait(live.ticked)
    workers = live.processes()
    assert len(workers) == 1
    with Load(rig, seed) as load:
        for number in range(max(rounds, len(victims))):
            victim = victims[number % len(victims)]
            time.sleep(rng.random())
            if victim == SUPERVISOR:
                supervisor.kill()
                supervisor.wait()
            else:
                live.kill(victim)
            before = consumed(rig)
            supervised.wait(lambda before=before: load.consumed_since(before))  # type: ignore[misc]  # without the victim
            assert live.processes() == workers, f"{victim}\n{rig.logs()}"
            ticked = live.ticked()
            if victim == SUPERVISOR:
                supervisor = supervised.start()
                supervised.wait(lambda: b"adopted" in supervised.log())
            else:
                live.start()
            supervised.wait(lambda ticked=ticked: live.ticked() != ticked)  # type: ignore[misc]
            assert live.processes() == workers, f"{victim} is back: no second worker, and the first one still"
    supervised.wait(rig.level, 120)

    began = time.monotonic()
    supervised.wait(lambda: live.flipped(False) and not live.processes())
    off = time.monotonic() - began
    began = time.monotonic()
    supervised.wait(lambda: live.flipped(True) and supervised.workers())
    print(f"toggled off: gone after {off:.1f} s; on: up after {time.monotonic() - began:.1f} s")
    assert not live.processes() & workers and len(live.processes()) == 1

    _all_days_are_reported(live, rig)
    rig.verify()


def _all_days_are_reported(live: Live, rig: Rig) -> None:
    days = {
        row[0]
        for row in rig.query("select distinct (\"windowStart\" at time zone 'UTC')::date::text from product_sales")
    }
    query = """query { assetNodeOrError(assetKey: {path: ["postgres", "product_sales"]}) { ... on AssetNode {
      assetMaterializations { partition } } } }"""
    deadline = Deadline.after(180)
    while True:
        found = live.webserver.query(query)["assetNodeOrError"]["assetMaterializations"]
        reported = {event["partition"] for event in found}
        if reported == days or deadline.passed():
            assert reported == days
            return
        time.sleep(0.5)
