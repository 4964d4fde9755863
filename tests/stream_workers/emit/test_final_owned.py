"""Final rows of sessions and windows of records on real services: what stands is right, whoever dies when."""

from __future__ import annotations

import random
import signal
import time

from stream_workers.emit.steps import EmitStep
from tests.stream_workers.derive.rig import stop
from tests.stream_workers.emit.owned_rig import OwnedFinalRig

_SMALL = {"HEADRACE_BATCH_RECORDS": "100"}
_ONCE = {EmitStep.CLAIMED, EmitStep.TAKEN_OVER, EmitStep.ANNOUNCED}  # passed when a worker starts, and never again


def test_killed_at_any_step_corrected_and_read_by_an_alert(final_owned: OwnedFinalRig, seed: int, rounds: int) -> None:
    final, rng = final_owned, random.Random(seed)
    steps = rng.sample(list(EmitStep), len(EmitStep)) * 2
    final.run_on(seed, 300, 5)
    for n, step in enumerate(steps[:rounds]):
        visit = rng.randint(1, 2) if step in _ONCE else rng.randint(1, 4)
        doomed = final.start(HEADRACE_FAILPOINTS=f"{step.value}:kill:{visit}", **_SMALL)
        until = time.monotonic() + 120
        while doomed.poll() is None:  # how often it passes a step depends on how much it finds at each look
            assert time.monotonic() < until, f"{step} was not passed {visit} times\n{final.logs()}"
            final.run_on(seed + 1 + n, 60, 1)
            if rng.random() < 0.3:
                final.mark()
            time.sleep(1)
        assert doomed.returncode == -signal.SIGKILL, final.logs()
    final.mark()
    worker = final.start(**_SMALL)
    final.wait(final.settled)
    final.fix()
    final.wait(final.settled)
    final.verify_owned()
    assert "full windows" in final.command("status")
    alerting = final.derive("orders-alerts")
    final.wait(lambda: final.made("alerts", source=f"{final.topic}-visits"))
    final.verify_alerts()
    assert [stop(one) for one in (worker, alerting)] == [0, 0], final.logs()


def test_without_markers_idle_partitions_hold_nothing_back(final_owned: OwnedFinalRig, seed: int) -> None:
    final_owned.idle_after = "2 seconds"
    final_owned.run_on(seed, 200)
    worker = final_owned.start(**_SMALL)
    final_owned.wait(lambda: bool(final_owned.query("select 1 from ledger.closings having count(*) = 2")))
    final_owned.wait(final_owned.closed)
    final_owned.run_on(seed + 1, 200)  # some of them are from long ago
    final_owned.wait(final_owned.closed)
    final_owned.verify_owned()
    assert stop(worker) == 0, final_owned.logs()
