"""Changed rows on real services: a reader of the topic has the rows, and each record once, whoever dies when."""

from __future__ import annotations

import json
import os
import random
import signal
import time

import psutil

from stream_workers.emit.steps import AlertStep, ChangeStep, EmitStep
from stream_workers.steps import CorrectionStep, Step
from tests.stream_workers.derive.rig import stop
from tests.stream_workers.emit.changes_rig import TABLES, ChangesRig

_SMALL = {"HEADRACE_BATCH_RECORDS": "100"}
_ONCE = [EmitStep.TAKEN_OVER, EmitStep.ANNOUNCED]  # passed when a shard is opened, and never again
_STEPS = [
    ChangeStep.NUMBERED,
    AlertStep.NUMBERED,
    EmitStep.COMMITTED,
    Step.COMMITTED,
    EmitStep.PRODUCED,
    CorrectionStep.DECIDED,
    EmitStep.BEGUN,
    EmitStep.MIRRORED,
    Step.MERGED,
    CorrectionStep.COMMITTED,
    EmitStep.POSITIONED,
    Step.ADOPTED,
    *_ONCE,
]


def test_killed_at_any_step_corrected_and_started_again(changes: ChangesRig, seed: int, rounds: int) -> None:
    rng = random.Random(seed)
    changes.run_on(seed, 300, 5)
    for n, step in enumerate((_STEPS * 2)[:rounds]):
        visit = 1 if isinstance(step, CorrectionStep) else rng.randint(1, 2) if step in _ONCE else rng.randint(1, 4)
        size = str(rng.randint(20, 200))
        doomed = changes.start(HEADRACE_FAILPOINTS=f"{step.value}:kill:{visit}", HEADRACE_BATCH_RECORDS=size)
        until = time.monotonic() + 120
        while doomed.poll() is None:  # how often it passes a step depends on how much it finds at each look
            assert time.monotonic() < until, f"{step} was not passed {visit} times\n{changes.logs()}"
            changes.run_on(seed + 1 + n, 50, 2)
            changes.delete(rng.randrange(10**9), 3)
            changes.fix()
            time.sleep(0.5)
        assert doomed.returncode == -signal.SIGKILL, changes.logs()
    worker = changes.start(**_SMALL)
    changes.wait(changes.settled)
    changes.fix()
    changes.wait(changes.settled)
    changes.verify_topics()
    changes.verify_alerts()
    sent = {row["writer"].partition("@")[0]: row for row in json.loads(changes.command("status", "--json"))["outboxes"]}
    assert set(sent) == {*TABLES, f"orders:{changes.topic}-failures"}
    assert all((row["shards"], row["unpublished"]) == (2, 0) and row["numbered"] > 0 for row in sent.values())
    assert f"alerts {changes.topic}-failures" in changes.command("status")
    assert stop(worker) == 0, changes.logs()


def test_a_zombie_publishes_nothing_more(changes: ChangesRig, seed: int, rounds: int) -> None:
    steps = [
        AlertStep.NUMBERED,
        EmitStep.PRODUCED,
        Step.CLAIMED,
        ChangeStep.NUMBERED,
        EmitStep.COMMITTED,
        EmitStep.POSITIONED,
    ]
    for n, step in enumerate(steps[: max(1, rounds // 4)]):
        changes.run_on(seed + 2 * n, 300, 3)
        zombie = changes.start(HEADRACE_FAILPOINTS=f"{step.value}:stop:1", **_SMALL)
        changes.wait(lambda zombie=zombie: psutil.Process(zombie.pid).status() == psutil.STATUS_STOPPED)  # type: ignore[misc]
        other = changes.start(**_SMALL)
        changes.wait(changes.settled)
        os.kill(zombie.pid, signal.SIGCONT)
        changes.run_on(seed + 2 * n + 1, 300, 3)
        changes.wait(changes.settled)
        changes.verify_topics()
        changes.verify_alerts()
        for worker in (zombie, other):
            assert worker.poll() is None, changes.logs()
            stop(worker)
        changes.workers.clear()


def test_a_restored_ledger_is_said_and_accepted_and_a_rebuild_sends_all_rows(changes: ChangesRig, seed: int) -> None:
    changes.run_on(seed, 100)
    worker = changes.start()
    changes.wait(changes.settled)
    assert stop(worker) == 0, changes.logs()
    changes.workers.clear()
    ((lost,),) = changes.query(
        "with old as (select writer, shard, outbox_seq from ledger.outboxes"
        " where writer like 'totals@%%' and shard = 0)"
        " update ledger.outboxes o set outbox_seq = 1, published_seq = 1 from old"
        " where (o.writer, o.shard) = (old.writer, old.shard) returning old.outbox_seq - 1"
    )
    worker = changes.start()
    changes.wait(lambda: "Postgres was restored" in str(changes.query("select error from ledger.shards")))
    said = str(changes.query("select error from ledger.shards where error is not null"))
    assert "totals shard 0 to" in said and "headrace pipeline accept orders" in said
    changes.command("pipeline", "accept", "orders")
    changes.run_on(seed + 1, 200)
    changes.wait(changes.settled)
    changes.verify_topics(built_anew=True)
    assert lost > 0 and stop(worker) == 0, changes.logs()
    changes.command("pipeline", "rebuild", "orders", "--yes")
    worker = changes.start()
    changes.wait(changes.settled)
    changes.verify_topics(built_anew=True)
    assert stop(worker) == 0, changes.logs()


def test_the_topics_are_compacted_as_declared(changes: ChangesRig) -> None:
    said = changes.command("provision")
    for name in TABLES:
        assert changes.policy(f"{changes.topic}-{name}") == "compact"
        assert f"{changes.topic}-{name}" in said
    assert "drift" not in said
