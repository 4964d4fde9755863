"""Dead letters of tables on real services: a reader of their topic sees each once, whoever dies when."""

from __future__ import annotations

import os
import random
import signal
import time

import psutil

from ledger.outbox import UNPUBLISHED
from stream_workers.emit.steps import EmitStep, LetterStep
from stream_workers.steps import Step
from tests.stream_workers.derive.rig import stop
from tests.stream_workers.emit.letters_rig import KINDS, LettersRig

_SMALL = {"HEADRACE_BATCH_RECORDS": "100"}
_ONCE = [EmitStep.TAKEN_OVER, EmitStep.ANNOUNCED]  # passed when a shard is opened, and never again
_STEPS = [
    EmitStep.COMMITTED,
    LetterStep.NUMBERED,
    EmitStep.PRODUCED,
    Step.COMMITTED,
    EmitStep.BEGUN,
    EmitStep.MIRRORED,
    Step.DEAD_LETTERED,
    EmitStep.POSITIONED,
    Step.ADOPTED,
    *_ONCE,
]


def test_killed_at_any_step_and_joined_by_a_table_that_comes_later(letters: LettersRig, seed: int, rounds: int) -> None:
    rng = random.Random(seed)
    letters.produce(seed, 300, KINDS)
    for step in (_STEPS * 2)[:rounds]:
        visit = rng.randint(1, 2) if step in _ONCE else rng.randint(1, 3)
        size = str(rng.randint(20, 200))
        doomed = letters.start(HEADRACE_FAILPOINTS=f"{step.value}:kill:{visit}", HEADRACE_BATCH_RECORDS=size)
        until = time.monotonic() + 60
        while doomed.poll() is None:  # how often it passes a step depends on how much it finds at each look
            assert time.monotonic() < until, f"{step} was not passed {visit} times\n{letters.logs()}"
            letters.produce(rng.randrange(10**9), 30, rng.sample(KINDS, 5))
            time.sleep(0.3)
        assert doomed.returncode == -signal.SIGKILL, letters.logs()
    letters.tables = 3
    worker = letters.start(TEST_TABLE_ADDED="1", **_SMALL)
    letters.wait(letters.settled)
    letters.verify_topic()
    assert stop(worker) == 0, letters.logs()


def test_a_zombie_publishes_nothing_more(letters: LettersRig, seed: int, rounds: int) -> None:
    # One that wakes up between claim and take-over takes over from the owner, which then has to take over again.
    steps = [
        Step.CLAIMED,
        EmitStep.PRODUCED,
        LetterStep.NUMBERED,
        EmitStep.COMMITTED,
        EmitStep.TAKEN_OVER,
        EmitStep.POSITIONED,
    ]
    for n, step in enumerate(steps[: max(1, rounds // 4)]):
        letters.produce(seed + 2 * n, 300, KINDS)
        zombie = letters.start(HEADRACE_FAILPOINTS=f"{step.value}:stop:1", **_SMALL)
        letters.wait(lambda zombie=zombie: psutil.Process(zombie.pid).status() == psutil.STATUS_STOPPED)  # type: ignore[misc]
        other = letters.start(**_SMALL)
        letters.wait(letters.settled)
        os.kill(zombie.pid, signal.SIGCONT)
        letters.produce(seed + 2 * n + 1, 300, KINDS)
        letters.wait(letters.settled)
        letters.verify_topic()
        for worker in (zombie, other):
            assert worker.poll() is None, letters.logs()
            stop(worker)
        letters.workers.clear()


def test_what_the_ledger_and_kafka_disagree_about_is_said_and_accepted(letters: LettersRig, seed: int) -> None:
    letters.produce(seed, 100, KINDS)
    worker = letters.start()
    letters.wait(letters.settled)
    assert stop(worker) == 0, letters.logs()
    letters.workers.clear()
    letters.query("update ledger.outboxes set outbox_seq = 1, published_seq = 1 where shard = 0 returning 1")
    worker = letters.start()
    letters.wait(lambda: "Postgres was restored" in str(letters.query("select error from ledger.shards")))
    letters.produce(seed + 1, 100, KINDS)
    said = str(letters.query("select error from ledger.shards where error is not null"))
    assert "orders shard 0 to" in said and "headrace pipeline accept orders" in said
    assert letters.query("select outbox_seq from ledger.outboxes where shard = 0") == [(1,)]
    letters.command("pipeline", "accept", "orders")
    letters.wait(letters.settled)
    letters.verify_topic()
    assert stop(worker) == 0, letters.logs()


def test_a_batch_waits_while_too_many_are_not_published(letters: LettersRig, seed: int) -> None:
    letters.query(
        "insert into ledger.outboxes (pipeline, writer, shard, epoch, owner, outbox_seq)"
        " values ('orders', 'orders', 0, 0, 'by hand', %s) returning 1",
        UNPUBLISHED,
    )
    letters.query(
        "insert into ledger.outbox (writer, shard, seq, topic, payload)"
        " select 'orders', 0, n, 'x', 'by hand'::bytea from generate_series(1, %s) n returning 1",
        UNPUBLISHED,
    )
    letters.produce(seed, 100, KINDS)
    fails = ",".join(f"{EmitStep.BEGUN.value}:raise:{n}" for n in (1, 2, 3))  # Kafka takes nothing at first
    worker = letters.start(HEADRACE_FAILPOINTS=fails)
    letters.wait(letters.settled)
    assert any("records wait for Kafka" in log.read_text() for log in letters.log_dir.rglob("*.log"))
    letters.verify_topic()
    letters.verify()
    assert stop(worker) == 0, letters.logs()
