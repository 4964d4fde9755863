"""Failures of a worker are remembered, also by the next supervisor, and forgotten when they are over."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import psutil
import pytest

from assets import catalog
from headrace.settings import load
from ledger import Connection, connect, reports, restarts
from stream_workers.backoff import Backoff
from stream_workers.slot import supervised
from stream_workers.supervisor import Supervisor


@dataclass
class Settable:
    """A clock that a test sets."""

    at: float = 1000.0
    waits: list[float] = field(default_factory=list)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.at, UTC)

    def monotonic(self) -> float:
        return self.at

    def wait(self, seconds: float) -> None:
        self.at += seconds


@pytest.fixture
def db(database: str) -> Iterator[Connection]:
    with connect(database) as connection:
        yield connection


@pytest.fixture
def clock() -> Settable:
    return Settable()


@pytest.fixture
def process() -> Iterator[psutil.Popen]:
    """A process that lives, in place of a worker."""
    found = psutil.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield found
    found.kill()
    found.wait()


def made(clock: Settable) -> Supervisor:
    return Supervisor(dict(catalog.load().pipelines), load(), clock)


def failures(database: str) -> list[int]:
    return [row.failures for row in reports.restarts(reports.engine(database))]


def test_failures_are_forgotten_when_a_worker_has_lived_for_a_minute(
    db: Connection, database: str, clock: Settable, process: psutil.Popen
) -> None:
    supervisor = made(clock)
    (slot,) = supervisor.slots
    slot.process, slot.worker = process, "orders-0-abcdef"
    slot.backoff = Backoff(2)
    slot.backoff.started(clock.at)
    restarts.note(db, "orders", 0, 2, 1.0, "ended with code 1")
    clock.wait(60)
    supervisor.tend(db, slot, True)
    assert failures(database) == [2] and slot.backoff.failures == 2
    clock.wait(1)
    supervisor.tend(db, slot, True)
    assert failures(database) == [] and slot.backoff.failures == 0


def test_failures_are_forgotten_when_a_pipeline_is_switched_off(db: Connection, database: str, clock: Settable) -> None:
    supervisor = made(clock)
    (slot,) = supervisor.slots
    slot.backoff.failed(clock.at)
    restarts.note(db, "orders", 0, 1, 30.0, "ended with code 1")
    assert not slot.backoff.due(clock.at)
    supervisor.tend(db, slot, False)
    assert failures(database) == [] and slot.backoff.due(clock.at)


def test_the_next_supervisor_goes_on_with_the_pause(db: Connection, database: str, clock: Settable) -> None:
    restarts.note(db, "orders", 0, 5, 16.0, "ended with code 1")
    restarts.note(db, "orders", 7, 3, 16.0, "a place that is no more")
    supervisor = made(clock)
    supervisor.begin(db)
    (slot,) = supervisor.slots
    assert failures(database) == [5] and slot.backoff.failures == 5
    clock.wait(15)
    assert not slot.backoff.due(clock.at)
    clock.wait(1)
    assert slot.backoff.due(clock.at)
    assert slot.backoff.failed(clock.at) == 16.0


def test_workers_of_supervisors_are_known_by_name() -> None:
    assert supervised("orders", "orders-0-a1b2c3") and supervised("orders", "orders-12-a1b2c3")
    for other in ("orders-2", "orders-a1b2c3d4", "orders-0-a1b2c3d", "payments-0-a1b2c3", "orders-x-0-a1b2c3"):
        assert not supervised("orders", other)
