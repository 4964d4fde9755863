"""Final rows on real services: a reader sees each revision once, whoever dies when."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import replace

import psutil
import pytest

from headrace.errors import OffsetError
from ledger.closings import Claim
from stream_workers.emit.publishing import Outbox, Published, compare
from stream_workers.emit.steps import EmitStep
from tests.stream_workers.derive.rig import stop
from tests.stream_workers.emit.rig import FinalRig

_SMALL = {"HEADRACE_BATCH_RECORDS": "100"}
_ONCE = {EmitStep.CLAIMED, EmitStep.TAKEN_OVER, EmitStep.ANNOUNCED}  # passed when a worker starts, and never again


def test_killed_at_any_step_corrected_and_started_again(final: FinalRig, seed: int, rounds: int) -> None:
    rng = random.Random(seed)
    steps = rng.sample(list(EmitStep), len(EmitStep)) * 2
    final.run_on(seed, 300, 5)
    for n, step in enumerate(steps[:rounds]):
        visit = rng.randint(1, 2) if step in _ONCE else rng.randint(1, 4)
        doomed = final.start(HEADRACE_FAILPOINTS=f"{step.value}:kill:{visit}", **_SMALL)
        final.run_on(seed + 1 + n, 300, 5)
        final.mark()
        until = time.monotonic() + 120
        while doomed.poll() is None:  # how often it passes a step depends on how much it finds at each look
            assert time.monotonic() < until, f"{step} was not passed {visit} times\n{final.logs()}"
            time.sleep(1)
            final.run_on(seed + 1 + n, 50, 1)
            final.mark()
        assert doomed.returncode == -signal.SIGKILL, final.logs()
    worker = final.start(**_SMALL)
    final.wait(final.settled)
    final.fix()
    final.wait(final.settled)
    final.verify_topics()
    assert stop(worker) == 0, final.logs()


def test_a_zombie_publishes_nothing_more(final: FinalRig, seed: int, rounds: int) -> None:
    steps = [EmitStep.PRODUCED, EmitStep.CLAIMED, EmitStep.COMMITTED, EmitStep.KEPT, EmitStep.POSITIONED]
    for n, step in enumerate(steps[: max(1, rounds // 4)]):
        final.run_on(seed + 2 * n, 300)
        zombie = final.start(HEADRACE_FAILPOINTS=f"{step.value}:stop:1", **_SMALL)
        final.mark()
        final.wait(lambda zombie=zombie: psutil.Process(zombie.pid).status() == psutil.STATUS_STOPPED)  # type: ignore[misc]
        other = final.start(**_SMALL)
        final.wait(final.settled)
        os.kill(zombie.pid, signal.SIGCONT)
        final.run_on(seed + 2 * n + 1, 300)
        final.mark()
        final.wait(final.settled)
        final.verify_topics()
        for worker in (zombie, other):
            assert worker.poll() is None, final.logs()
            stop(worker)
        final.workers.clear()


def test_what_the_ledger_and_kafka_disagree_about_is_said_and_accepted(final: FinalRig, seed: int) -> None:
    final.run_on(seed, 300)
    final.mark()
    worker = final.start()
    final.wait(final.settled)
    assert stop(worker) == 0, final.logs()
    final.workers.clear()
    final.query(
        "update ledger.closings set outbox_seq = 1, published_seq = 1 where table_version like 'product_sales@%%'"
        " returning 1"
    )
    worker = final.start()
    final.wait(lambda: "Postgres was restored" in str(final.query("select error from ledger.closings")))
    status = final.command("status")
    assert "product_sales to" in status and "headrace pipeline accept orders" in status
    assert final.query("select published_seq from ledger.closings where error is not null") == [(1,)]
    final.command("pipeline", "accept", "orders")
    final.wait(lambda: final.query("select count(error) from ledger.closings") == [(0,)])
    final.run_on(seed + 1, 300)
    final.mark()
    final.wait(final.settled)
    final.command("pipeline", "rebuild", "orders", "--yes")
    final.wait(final.settled)
    final.verify_topics(built_anew=True)
    assert stop(worker) == 0, final.logs()


_MINE = Published("today", "id")
_BOX = Outbox("orders", "t@1", -1, "sales", "group", "id", "t to sales", "final rows")
_CLAIM = Claim("t@1", 1, "today", outbox_seq=9, published_seq=5, announced=True)


@pytest.mark.parametrize("at", [5, 7, 9])
def test_kafkas_offset_is_the_truth(at: int) -> None:
    assert compare((at, _MINE.dump()), _CLAIM, _MINE, _BOX) == at


def test_a_build_begins_anew_whatever_an_earlier_one_published() -> None:
    fresh = replace(_CLAIM, outbox_seq=0, published_seq=0, announced=False)
    earlier = Published("yesterday", "another").dump()
    assert [compare(found, fresh, _MINE, _BOX) for found in (None, (70, earlier))] == [None, None]


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (None, "Kafka has no offset of this build"),
        ((7, Published("yesterday", "id").dump()), "Kafka has no offset of this build"),
        ((7, Published("today", "another").dump()), "was deleted and created again"),
        ((10, _MINE.dump()), "Postgres was restored to an older state"),
        ((4, _MINE.dump()), "it went back"),
        ((7, "by hand"), "set by other hands"),
    ],
)
def test_nothing_is_reset(found: tuple[int, str] | None, says: str) -> None:
    with pytest.raises(OffsetError) as caught:
        compare(found, _CLAIM, _MINE, _BOX)
    assert says in str(caught.value) and "nothing was published" in str(caught.value)
    assert "headrace pipeline" in str(caught.value)
