"""Alerts on final rows, on real services: each revision that meets a condition is one alert, whoever dies when."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from typing import TypeVar

from stream_workers.derive.steps import DeriveStep
from stream_workers.emit.steps import EmitStep
from tests.stream_workers.alerts.rig import AlertRig
from tests.stream_workers.derive.rig import stop

Step = TypeVar("Step", EmitStep, DeriveStep)
_SMALL = {"HEADRACE_BATCH_RECORDS": "100"}
_MAKING = [s for s in DeriveStep if not s.name.startswith(("MARK", "CORRECTIONS"))]  # final rows have no markers
_AT_START = {DeriveStep.TAKEN_OVER, DeriveStep.STARTED, EmitStep.CLAIMED, EmitStep.TAKEN_OVER, EmitStep.ANNOUNCED}


def _killed(alerts: AlertRig, doomed: subprocess.Popen[bytes], seed: int) -> None:
    """Send orders until the worker has passed its step often enough."""
    until = time.monotonic() + 120
    while doomed.poll() is None:
        assert time.monotonic() < until, f"its step was not passed\n{alerts.logs()}"
        alerts.run_on(seed, 100)
        alerts.mark()
        time.sleep(0.3)
    assert doomed.returncode == -signal.SIGKILL, alerts.logs()


def _shuffled(rng: random.Random, steps: list[Step], count: int) -> list[Step]:
    """So many of them, each as often as any other."""
    return [step for _ in range(0, count, len(steps)) for step in rng.sample(steps, len(steps))]


def test_each_revision_that_meets_the_condition_is_one_alert(alerts: AlertRig, seed: int, rounds: int) -> None:
    rng = random.Random(seed)

    def dying(step: EmitStep | DeriveStep) -> dict[str, str]:
        return {"HEADRACE_FAILPOINTS": f"{step.value}:kill:{1 if step in _AT_START else rng.randint(1, 2)}", **_SMALL}

    alerts.run_on(seed, 200)
    table = alerts.start(**_SMALL)
    closing, making = _shuffled(rng, list(EmitStep), rounds), _shuffled(rng, _MAKING, rounds)
    for n in range(rounds):
        _killed(alerts, alerts.alert(**dying(making[n])), seed + 2 * n + 1)
        table.kill()
        table.wait()
        _killed(alerts, alerts.start(**dying(closing[n])), seed + 2 * n + 2)
        table = alerts.start(**_SMALL)
    maker = alerts.alert(**_SMALL)
    reader = alerts.derive("quarters", **_SMALL)
    alerts.wait(alerts.settled)
    alerts.verify_alerts()

    before, revisions = alerts.about("p1", minute=0), alerts.revisions("p1", minute=0)
    alerts.send_late("p1", minute=7, amount=3500.0)
    alerts.mark()
    alerts.wait(alerts.settled)
    *same, newest = alerts.about("p1", minute=0)
    assert same == before and newest[1] == 1 + max(revisions, default=0)
    alerts.verify_alerts()
    alerts.wait(alerts.read)
    alerts.verify_table()
    assert [stop(worker) for worker in (table, maker, reader)] == [0, 0, 0], alerts.logs()


def test_a_topic_of_final_rows_that_is_missing_is_said_with_its_remedy(alerts: AlertRig) -> None:
    alerts.admin.delete_topics([alerts.sales])[alerts.sales].result()
    worker = alerts.alert()
    asked = "select error from ledger.shards where error is not null"
    alerts.wait(lambda: bool(alerts.query(asked)) or worker.poll() is not None, alive=False)
    said = str(alerts.query(asked)) + alerts.logs()
    assert f"topic {alerts.sales} does not exist; nothing was changed; run `headrace provision`" in said
    alerts.command("provision")
