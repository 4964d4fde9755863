"""The cheap checks: each can pass and each can fail, and says why."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from assets import catalog
from ledger.fleet import Fleet
from ledger.observed import Observed, Place, Switch, Worker
from orchestration import judge
from orchestration.verdict import Verdict

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PROGRAM = catalog.load("tests.catalogs").pipelines["orders"]
TABLE = PROGRAM.tables[0]


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


LEVEL = Place(
    table=TABLE.name,
    table_version=TABLE.version_id,
    pipeline="orders",
    created_at=ago(9_000),
    shard=0,
    topic="orders-under-test",
    partition=0,
    first_offset=5,
    next_offset=115,
    gaps=10,
    consumed=100,
    applied=80,
    late=0,
    duplicate=0,
    dead_lettered=9,
    filtered=10,
    control=1,
    late_applied=3,
    level_at=ago(4_000),
    end_offset=115,
    next_timestamp=None,
    seen_at=ago(1),
    error=None,
    claimed_at=ago(8_000),
    committed_at=ago(4_000),
)
BEHIND = replace(LEVEL, end_offset=215, next_timestamp=ago(30), committed_at=ago(2))
ON = Switch("orders", "on", ago(8_000), None, None, 0, None)
RUNNING = Worker("w1", "orders", "running", ago(8_000), ago(1), 12.5, None)
TICKED = Fleet("instance", ago(3))


def seen(*places: Place, switch: Switch | None = ON, workers: tuple[Worker, ...] = (RUNNING,)) -> Observed:
    return Observed(places, {"orders": switch} if switch else {}, workers, TICKED)


def told(verdict: Verdict, passed: bool, says: str) -> None:
    assert (verdict.passed, says in verdict.says) == (passed, True), verdict
    assert "\n" not in verdict.says


def test_accounting() -> None:
    told(judge.accounting(TABLE, [LEVEL]), True, "100 records in 1 partitions")
    told(judge.accounting(TABLE, [replace(LEVEL, applied=81)]), False, "orders-under-test[0]")
    told(judge.accounting(TABLE, [LEVEL, replace(LEVEL, partition=1, gaps=9)]), False, "orders-under-test[1]")
    told(judge.accounting(TABLE, []), False, "nothing was consumed yet")
    assert judge.accounting(TABLE, [LEVEL]).blocking
    assert judge.accounting(TABLE, [LEVEL]).numbers["dead_lettered"] == 9


def test_lag() -> None:
    told(judge.lag(TABLE, [LEVEL], NOW), True, "level with its topic")
    told(judge.lag(TABLE, [LEVEL, BEHIND], NOW), True, "100 records behind, the oldest for 30 s")
    told(judge.lag(TABLE, [replace(BEHIND, next_timestamp=ago(61))], NOW), False, "for 61 s (at most 1 minute)")
    told(judge.lag(TABLE, [replace(LEVEL, seen_at=ago(90))], NOW), False, "seen 90 s ago")
    told(judge.lag(TABLE, [replace(LEVEL, end_offset=None, seen_at=None)], NOW), False, "nobody has seen the end")
    told(judge.lag(TABLE, [], NOW), False, "nothing was consumed yet")
    assert judge.lag(TABLE, [BEHIND], NOW).numbers == {"lag records": 100, "lag seconds": 30.0}
    assert not judge.lag(TABLE, [BEHIND], NOW).severe


def test_freshness() -> None:
    told(judge.freshness(TABLE, [LEVEL], NOW), True, "true as of 1 s ago")  # level: true as of the last look at the end
    told(judge.freshness(TABLE, [LEVEL, BEHIND], NOW), True, "true as of 30 s ago")
    late = replace(BEHIND, next_timestamp=ago(901), level_at=ago(2_000))
    told(judge.freshness(TABLE, [LEVEL, late], NOW), False, "true as of 901 s ago (at most 15 minutes)")
    told(judge.freshness(TABLE, [replace(LEVEL, end_offset=None, level_at=None)], NOW), False, "no worker has reached")
    told(judge.freshness(TABLE, [replace(LEVEL, seen_at=ago(1_000), level_at=ago(1_000))], NOW), False, "1000 s ago")


@pytest.mark.parametrize(
    ("ages", "passed", "says"),
    [
        ({0: 100, 1: 100, 2: 90, 3: 110}, True, "usual are 100"),
        ({0: 49, 1: 100, 2: 90, 3: 110}, False, "49 records"),
        ({0: 301, 1: 100, 2: 90, 3: 110}, False, "301 records"),
        ({1: 100, 2: 90, 3: 110}, False, "0 records"),
        ({0: 5, 1: 100, 2: 90}, True, "too few to compare"),
        ({}, True, "too few to compare"),
    ],
)
def test_volume(ages: dict[int, int], passed: bool, says: str) -> None:
    told(judge.volume(TABLE, [LEVEL], {LEVEL.table_version: ages}), passed, says)


def test_workers_as_the_switch_says() -> None:
    told(judge.workers(PROGRAM, seen(LEVEL), NOW), True, "on by its toggle; 1 running")
    told(judge.workers(PROGRAM, seen(LEVEL, workers=()), NOW), False, "no worker runs for 8000 s")
    told(judge.workers(PROGRAM, seen(workers=(), switch=replace(ON, changed_at=ago(10))), NOW), True, "0 running")
    silent = replace(RUNNING, heartbeat_at=ago(40))
    told(judge.workers(PROGRAM, seen(LEVEL, workers=(silent,)), NOW), False, "no worker runs for 40 s")
    told(judge.workers(PROGRAM, seen(LEVEL, switch=None), NOW), False, "`headrace supervisor run`")


def test_workers_that_are_off() -> None:
    off = replace(ON, desired="off", changed_at=ago(100))
    told(judge.workers(PROGRAM, seen(LEVEL, switch=off, workers=()), NOW), True, "off by its toggle; 0 running")
    told(judge.workers(PROGRAM, seen(LEVEL, switch=off), NOW), False, "switched off and 1 still running")
    draining = replace(RUNNING, state="draining")
    told(judge.workers(PROGRAM, seen(LEVEL, switch=off, workers=(draining,)), NOW), True, "off by its toggle")
    override = replace(ON, override="off", override_until=NOW + timedelta(hours=1))
    told(
        judge.workers(PROGRAM, seen(LEVEL, switch=override, workers=()), NOW),
        True,
        "off by an override until 2026-03-01 13:00",
    )
    over = replace(ON, override="off", override_until=ago(5))
    told(judge.workers(PROGRAM, seen(LEVEL, switch=over, workers=()), NOW), True, "on by its toggle; 0 running")


def test_workers_in_trouble() -> None:
    crashing = replace(ON, failures=3, last_error="ended with code 1")
    told(
        judge.workers(PROGRAM, seen(LEVEL, switch=crashing), NOW), False, "crash loop: 3 failures in a row; ended with"
    )
    told(judge.workers(PROGRAM, seen(LEVEL, switch=replace(crashing, failures=2)), NOW), True, "1 running")
    still = replace(LEVEL, error="the topic was recreated")
    told(judge.workers(PROGRAM, seen(still), NOW), False, "stands still: the topic was recreated")
    stalled = replace(BEHIND, committed_at=ago(70), level_at=ago(80))
    told(judge.workers(PROGRAM, seen(LEVEL, stalled), NOW), False, "100 records wait, no commit for 70 s")
    told(judge.workers(PROGRAM, seen(LEVEL, BEHIND), NOW), True, "1 running")
    young = replace(RUNNING, started_at=ago(20))
    told(judge.workers(PROGRAM, seen(stalled, workers=(young,)), NOW), True, "1 running")


def test_fleet() -> None:
    told(judge.fleet(PROGRAM, TICKED, NOW), True, "last tick 3 s ago")
    told(judge.fleet(PROGRAM, Fleet("instance", ago(61)), NOW), False, "no tick for 61 s")
    told(judge.fleet(PROGRAM, None, NOW), False, "never ticked")
