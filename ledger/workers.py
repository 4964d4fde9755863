"""Worker processes as the ledger knows them: heartbeats, desired state, restarts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
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
    heartbeat_at: datetime


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
        "select worker, pipeline, host, pid, process_start, heartbeat_at from ledger.workers"
        " where host = %s and state in ('starting', 'running', 'draining')",
        (host,),
    )
    return [Process(*row) for row in rows]


def ended(db: Connection, worker: str, state: State, error: str | None = None) -> None:
    """Note that a worker process is gone."""
    db.execute(
        "update ledger.workers set state = %s, shards = '{}', records_per_s = 0, last_error = coalesce(last_error, %s)"
        " where worker = %s",
        (state, error, worker),
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


def override(db: Connection, pipeline: str, on: bool | None, seconds: float = 0) -> None:
    """Switch a pipeline for `seconds`, whatever its toggle says; None ends an override."""
    db.execute(
        "update ledger.pipelines set override = %s,"
        " override_until = clock_timestamp() + make_interval(secs => %s) where pipeline = %s",
        (None if on is None else "on" if on else "off", seconds, pipeline),
    )


def see_end(
    db: Connection, pipeline: str, topic: str, partition: int, end_offset: int, waiting_since: float | None
) -> None:
    """Note how far a partition reaches; `waiting_since` (seconds since 1970) dates its oldest unread record."""
    moment = None if waiting_since is None else datetime.fromtimestamp(waiting_since, UTC)
    db.execute(
        sql("end_seen"),
        {
            "pipeline": pipeline,
            "topic": topic,
            "partition": partition,
            "end_offset": end_offset,
            "next_timestamp": moment,
        },
    )


def note_restart(db: Connection, pipeline: str, slot: int, failures: int, pause: float, error: str) -> None:
    """Note that a worker ended by itself and when the next one starts."""
    db.execute(
        "insert into ledger.restarts (pipeline, slot, failures, next_start, last_error)"
        " values (%s, %s, %s, clock_timestamp() + make_interval(secs => %s), %s)"
        " on conflict (pipeline, slot) do update set failures = excluded.failures, next_start = excluded.next_start,"
        " last_error = excluded.last_error",
        (pipeline, slot, failures, pause, error),
    )
