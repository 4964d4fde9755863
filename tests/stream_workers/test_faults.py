"""Whatever ends, stops or disconnects a worker, tables and accounting come out as if nothing had happened."""

from __future__ import annotations

import os
import random
import signal
import threading
import time

import psutil
import pytest

from stream_workers.steps import Step
from tests.stream_workers.harness import Rig
from tests.stream_workers.orders import BAD

_SMALL = {"HEADRACE_BATCH_RECORDS": "300"}
_BAD = [kind for kind in BAD for _ in range(2)]


@pytest.mark.parametrize("step", list(Step), ids=lambda step: step.value)
def test_killed_between_any_two_steps(rig: Rig, seed: int, step: Step) -> None:
    rig.produce(seed, 4000, _BAD)
    visit = 2 if step is Step.CLAIMED else 3
    doomed = rig.start(HEADRACE_FAILPOINTS=f"{step.value}:kill:{visit}", **_SMALL)
    rig.wait(lambda: doomed.poll() is not None, alive=False)
    assert doomed.returncode == -signal.SIGKILL, rig.logs()
    rig.start()
    rig.wait(rig.level)
    rig.verify()


_ZOMBIES = [Step.ROUTED, Step.ADVANCED, Step.MERGED, Step.INDEXED]  # before the transaction, and inside it


@pytest.mark.parametrize("step", _ZOMBIES, ids=lambda step: step.value)
def test_stopped_past_its_lease_then_continued(rig: Rig, seed: int, step: Step) -> None:
    rig.produce(seed, 4000, _BAD)
    zombie = rig.start(HEADRACE_FAILPOINTS=f"{step.value}:stop:3", **_SMALL)
    rig.wait(lambda: _stopped(zombie.pid))
    rig.start()
    rig.wait(rig.level)
    os.kill(zombie.pid, signal.SIGCONT)
    rig.produce(seed + 1, 2000, ["negative"])
    rig.wait(rig.level)
    rig.verify()
    assert zombie.poll() is None, rig.logs()


@pytest.mark.parametrize("action", ["indexed:cut:3", "advanced:cut-now:2", "begun:cut-now:1"])
def test_connection_cut(rig: Rig, seed: int, action: str) -> None:
    rig.produce(seed, 4000, _BAD)
    worker = rig.start(HEADRACE_FAILPOINTS=action, **_SMALL)
    rig.wait(rig.level)
    rig.verify()
    assert worker.poll() is None
    assert "memory dropped" in rig.logs()


def test_random_kills(rig: Rig, seed: int, rounds: int) -> None:
    rng = random.Random(seed)
    total = 100_000 if rounds >= 20 else 15_000

    def send() -> None:
        for n in range(20):
            rig.produce(seed + n, total // 20, _BAD[n : n + 5])

    sending = threading.Thread(target=send, daemon=True)
    sending.start()
    for _ in range(rounds):
        worker = rig.start(HEADRACE_BATCH_RECORDS=str(rng.choice([50, 300, 2000])))
        time.sleep(rng.uniform(2.0, 5.0))
        worker.kill()
        worker.wait()
    sending.join()
    rig.start()
    rig.wait(rig.level, 180)
    rig.verify()


@pytest.mark.parametrize("service", ["kafka", "postgres"])
def test_service_restarted_under_load(rig: Rig, seed: int, service: str) -> None:
    rig.produce(seed, 30_000, _BAD)  # more than a hundred commits: the restart falls into the middle of them
    worker = rig.start(HEADRACE_BATCH_RECORDS="200")
    rig.wait(lambda: bool(rig.query("select 1 from ledger.positions where consumed > 0")))
    assert not rig.level()
    getattr(rig.stack, service).restart(crash=True)
    rig.produce(seed + 1, 2000, ["nan"])
    rig.wait(rig.level, 120)
    rig.verify()
    assert worker.poll() is None, rig.logs()


def _stopped(pid: int) -> bool:
    return psutil.Process(pid).status() == psutil.STATUS_STOPPED
