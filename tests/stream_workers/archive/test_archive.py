"""Archives on real services: each record is in one file that the manifest lists, whoever dies when."""

from __future__ import annotations

import os
import signal

import psutil
import pytest

from stream_workers.archive.steps import ArchiveStep
from stream_workers.steps import Step
from tests.stream_workers.archive.rig import ArchiveRig
from tests.stream_workers.derive.rig import stop

_BAD = ["truncated", "unknown_schema", "empty", "null", "negative", "nan", "bad_time", "far", "early"]
_SMALL = {"HEADRACE_BATCH_RECORDS": "300"}
_END = 1_767_484_800_000_000  # 2026-01-04


@pytest.mark.parametrize("step", [Step.CLAIMED, Step.ROUTED, *ArchiveStep], ids=lambda step: step.value)
def test_killed_between_any_two_steps(archived: ArchiveRig, seed: int, step: Step | ArchiveStep) -> None:
    archived.produce(seed, 4000, _BAD)
    archived.mark_end(_END)
    visit = 2 if step in (Step.CLAIMED, ArchiveStep.WRITTEN) else 3
    doomed = archived.archive(HEADRACE_FAILPOINTS=f"{step.value}:kill:{visit}", **_SMALL)
    archived.wait(lambda: doomed.poll() is not None, alive=False)
    assert doomed.returncode == -signal.SIGKILL, archived.logs()
    worker = archived.archive(HEADRACE_BATCH_RECORDS="500")
    archived.wait(archived.kept)
    archived.verify_lake()
    assert stop(worker) == 0, archived.logs()


@pytest.mark.parametrize("step", [ArchiveStep.HELD, ArchiveStep.WRITING, ArchiveStep.ADVANCED])
def test_stopped_past_its_lease_then_continued(archived: ArchiveRig, seed: int, step: ArchiveStep) -> None:
    archived.produce(seed, 4000, _BAD)
    zombie = archived.archive(HEADRACE_FAILPOINTS=f"{step.value}:stop:3", **_SMALL)
    archived.wait(lambda: psutil.Process(zombie.pid).status() == psutil.STATUS_STOPPED)
    archived.archive(**_SMALL)
    archived.wait(archived.kept)
    os.kill(zombie.pid, signal.SIGCONT)
    archived.produce(seed + 1, 1000, ["negative"])
    archived.wait(archived.kept)
    archived.verify_lake()
    assert zombie.poll() is None, archived.logs()


def test_told_to_stop_it_writes_what_it_holds(archived: ArchiveRig, seed: int) -> None:
    """So that the next start does not read it again."""
    archived.produce(seed, 200)
    worker = archived.archive(HEADRACE_FAILPOINTS="archive_held:stop:2", TEST_ROLL_AFTER="10 minutes")
    archived.wait(lambda: psutil.Process(worker.pid).status() == psutil.STATUS_STOPPED)
    os.kill(worker.pid, signal.SIGCONT)
    assert stop(worker) == 0, archived.logs()
    ((rows,),) = archived.query("select coalesce(sum(rows), 0)::int from orders_lake")
    assert rows == sum(row[3] for row in archived.at("orders_lake")) > 0
