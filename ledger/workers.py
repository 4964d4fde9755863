"""Worker processes as the ledger knows them, and the switches of their pipelines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Literal

from ledger.connection import Connection
from ledger.sql import sql

State = Literal["starting", "running", "draining", "stopped", "failed", "lost"]


@dataclass(frozen=True)
class Beat:
    """What a worker says of itself. `process_start` (seconds since 1970) and `pid` name one process."""

    worker: str
    pipeline: str
    host: str
    pid: int
    process_start: float
    state: State
    shards: list[int]
    records: int
    records_per_s: float
    last_error: str | None


@dataclass(frozen=True)
class Process:
    """A worker process that has not ended, as far as the ledger knows."""

    worker: str
    pipeline: str
    host: str
    pid: int
    process_start: float
    state: State


@dataclass(frozen=True)
class Switch:
    """How a pipeline is switched: by its toggle, and by an override that holds until a moment."""

    desired: bool
    override: bool | None
    override_until: datetime | None

    @property
    def on(self) -> bool:
        """What the supervisors obey."""
        return self.desired if self.override is None else self.override


def beat(db: Connection, worker: Beat) -> None:
    """Write a worker's heartbeat."""
    db.execute(sql("worker_beat"), asdict(worker))


def alive(db: Connection, pipeline: str, seconds: float) -> int:
    """How many workers of the pipeline gave a sign of life in the last `seconds`."""
    row = db.execute(sql("worker_alive"), {"pipeline": pipeline, "seconds": seconds}).fetchone()
    return int(row[0]) if row else 0


def unfinished(db: Connection, host: str) -> list[Process]:
    """Workers of this host that have not said goodbye."""
    rows = db.execute(
        "select worker, pipeline, host, pid, process_start, state from ledger.workers"
        " where host = %s and state in ('starting', 'running', 'draining')",
        (host,),
    )
    return [Process(*row) for row in rows]


def state(db: Connection, worker: str) -> State | None:
    """What the worker last said of itself, None when it never said a word."""
    row = db.execute("select state from ledger.workers where worker = %s", (worker,)).fetchone()
    return row[0] if row else None


def ended(db: Connection, worker: str, state: State, error: str | None = None) -> None:
    """Note that a worker process is gone."""
    db.execute(
        "update ledger.workers set state = %s, shards = '{}', records_per_s = 0, last_error = coalesce(last_error, %s)"
        " where worker = %s",
        (state, error, worker),
    )


def lost(db: Connection, worker: str) -> None:
    """Note that a worker process is gone without a word; what it has said since we looked stands."""
    db.execute(
        "update ledger.workers set state = 'lost', shards = '{}', records_per_s = 0,"
        " last_error = coalesce(last_error, 'the process ended without a word')"
        " where worker = %s and state in ('starting', 'running', 'draining')",
        (worker,),
    )


def declare(db: Connection, pipelines: Sequence[str]) -> None:
    """Create the rows of new pipelines, desired state `on`."""
    for pipeline in pipelines:
        db.execute("insert into ledger.pipelines (pipeline) values (%s) on conflict do nothing", (pipeline,))


def desired(db: Connection) -> dict[str, bool]:
    """Whether each pipeline should run: an override that has not expired, else the desired state."""
    rows = db.execute(
        "select pipeline, coalesce(case when override_until > clock_timestamp() then override end, desired) = 'on'"
        " from ledger.pipelines"
    )
    return {row[0]: row[1] for row in rows}


def set_desired(db: Connection, pipeline: str, on: bool) -> None:
    """Switch a pipeline, as its toggle in Dagster says."""
    db.execute(
        "update ledger.pipelines set desired = %(to)s, changed_at = clock_timestamp()"
        " where pipeline = %(pipeline)s and desired <> %(to)s",
        {"to": "on" if on else "off", "pipeline": pipeline},
    )


def override(db: Connection, pipeline: str, on: bool | None, seconds: float = 0) -> datetime | None:
    """Switch a pipeline for `seconds`, whatever its toggle says; None ends an override. Returns until when it holds."""
    row = db.execute(
        "update ledger.pipelines set override = %(to)s, override_until ="
        " case when %(to)s::text is not null then clock_timestamp() + make_interval(secs => %(seconds)s) end"
        " where pipeline = %(pipeline)s returning override_until",
        {"to": None if on is None else "on" if on else "off", "seconds": seconds, "pipeline": pipeline},
    ).fetchone()
    return row[0] if row else None


def switch(db: Connection, pipeline: str) -> Switch | None:
    """A pipeline's switch, None before it was declared. An override that has expired is none."""
    row = db.execute(
        "select desired = 'on', case when valid then override = 'on' end, case when valid then override_until end"
        " from ledger.pipelines, lateral (select override_until > clock_timestamp() as valid) as now"
        " where pipeline = %s",
        (pipeline,),
    ).fetchone()
    return Switch(*row) if row else None


def living(db: Connection, pipeline: str, seconds: float) -> dict[str, State]:
    """State of the workers that have not ended and gave a sign of life in the last `seconds`, on any host."""
    rows = db.execute(
        "select worker, state from ledger.workers where pipeline = %s and state in ('starting', 'running', 'draining')"
        " and heartbeat_at > clock_timestamp() - make_interval(secs => %s) order by worker",
        (pipeline, seconds),
    )
    return {row[0]: row[1] for row in rows}


def last_error(db: Connection, pipeline: str) -> str | None:
    """What the youngest worker of the pipeline met last, None when that was nothing."""
    row = db.execute(
        "select last_error from ledger.workers where pipeline = %s order by started_at desc limit 1", (pipeline,)
    ).fetchone()
    return row[0] if row else None


def supervisors(db: Connection) -> list[str]:
    """Hosts on which a supervisor runs."""
    rows = db.execute(
        "select substr(name, length('supervisor:') + 1) from ledger.leases"
        " where name like 'supervisor:%' and expires_at > clock_timestamp() order by 1"
    )
    return [row[0] for row in rows]
