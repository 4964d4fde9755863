"""Reads of the ledger for people and checks; nothing here writes. Rows come as frozen dataclasses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, TypeVar

import sqlalchemy as sa

from ledger.closings import Finals
from ledger.connection import libpq_url
from ledger.sql import sql

Row = TypeVar("Row")


@dataclass(frozen=True)
class Accounting:
    """The fates of all records of one partition for one table version.

    consumed = applied + late + duplicate + dead_lettered + filtered + control
    next_offset - first_offset = consumed + gaps
    """

    table: str
    table_version: str
    topic: str
    partition: int
    consumed: int
    applied: int
    late: int
    duplicate: int
    dead_lettered: int
    filtered: int
    control: int
    late_applied: int
    gaps: int
    first_offset: int
    next_offset: int

    @property
    def holds(self) -> bool:
        """Whether both identities hold."""
        fates = self.applied + self.late + self.duplicate + self.dead_lettered + self.filtered + self.control
        return self.consumed == fates and self.next_offset - self.first_offset == self.consumed + self.gaps


@dataclass(frozen=True)
class DeadLetterDetail:
    """A dead letter whole: payload, key, headers, and the reason of every table that refused it."""

    record_id: int
    topic: str
    partition: int | None
    offset: int | None
    file_hash: str | None
    file_name: str | None
    line: int | None
    payload: bytes | None
    key: bytes | None
    headers: Mapping[str, str]
    kafka_timestamp: datetime | None
    recorded_at: datetime
    reasons: Mapping[str, str]


@dataclass(frozen=True)
class WorkerRow:
    """A worker process as its heartbeat described it."""

    worker: str
    pipeline: str
    host: str
    pid: int
    state: str
    shards: list[int]
    started_at: datetime
    heartbeat_at: datetime
    silent_s: float
    records: int
    records_per_s: float
    last_error: str | None


@dataclass(frozen=True)
class Lag:
    """How far a pipeline's slowest table is behind in one partition. `seconds` is None when level or not known."""

    pipeline: str
    topic: str
    partition: int
    next_offset: int
    end_offset: int | None
    records: int | None
    seconds: float | None
    seen_at: datetime | None


@dataclass(frozen=True)
class ShardError:
    """A shard that stands still, and why."""

    pipeline: str
    shard: int
    error: str


@dataclass(frozen=True)
class PipelineRow:
    """A pipeline's switch: "on" or "off" by its toggle, and by an override while that holds."""

    pipeline: str
    desired: str
    override: str | None
    override_until: datetime | None
    changed_at: datetime


@dataclass(frozen=True)
class RestartRow:
    """A place for a worker whose workers end by themselves. failures: in a row; two or more are a crash loop."""

    pipeline: str
    slot: int
    failures: int
    next_start: datetime | None
    last_error: str | None


@dataclass(frozen=True)
class FleetRow:
    """The Dagster instance whose toggles are the switches, and when its fleet sensor last ticked."""

    instance: str
    ticked_at: datetime
    silent_s: float


@dataclass(frozen=True)
class BatchRange:
    """Offsets of neighbouring batches of one shard, both ends included."""

    shard: int
    topic: str
    partition: int
    first_offset: int
    last_offset: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]@{self.first_offset}-{self.last_offset}"


@dataclass(frozen=True)
class OutboxRow:
    """What the shards of a pipeline send of one thing, named by its writer: records numbered, and not confirmed yet."""

    pipeline: str
    writer: str
    shards: int
    numbered: int
    unpublished: int

    @property
    def sends(self) -> str:
        """The table or alert whose records these are, for people."""
        table, _, version = self.writer.partition("@")
        _, _, alert = self.writer.partition(":")
        return f"changes of {table}" if version else f"alerts {alert}" if alert else "dead letters"


@cache
def engine(url: str) -> sa.Engine:
    """A small pool of connections for reads."""
    driver = libpq_url(url).replace("postgresql://", "postgresql+psycopg://", 1)
    return sa.create_engine(
        driver, pool_size=2, max_overflow=2, pool_pre_ping=True, connect_args={"connect_timeout": 5}
    )


def _rows(db: sa.Engine, kind: type[Row], query: str, **given: Any) -> list[Row]:
    with db.connect() as connection:
        return [kind(**row._mapping) for row in connection.execute(sa.text(query), given)]


def _query(name: str) -> str:
    return sql(name).decode()


def accounting(db: sa.Engine) -> list[Accounting]:
    """One row per live table version and partition."""
    return _rows(db, Accounting, _query("report_accounting"))


def dead_letters_by_reason(db: sa.Engine) -> dict[str, int]:
    """Records in the dead letters by reason, each record once, lines refused at ingest left out."""
    return _counts(db, "report_dead_letters_by_reason")


def rejected_lines(db: sa.Engine) -> dict[str, int]:
    """Lines refused at ingest by reason."""
    return _counts(db, "report_rejected_lines")


def _counts(db: sa.Engine, name: str) -> dict[str, int]:
    with db.connect() as connection:
        return {row[0]: row[1] for row in connection.execute(sa.text(_query(name)))}


def dead_letter(db: sa.Engine, record_id: int) -> DeadLetterDetail | None:
    """One dead letter whole, None when there is no such record."""
    found = _rows(db, DeadLetterDetail, _query("report_dead_letter"), record_id=record_id)
    return found[0] if found else None


def workers(db: sa.Engine) -> list[WorkerRow]:
    """Workers that run, and those that ended in the last day without another taking their place cleanly."""
    return _rows(db, WorkerRow, _query("report_workers"))


def lag(db: sa.Engine) -> list[Lag]:
    """Lag per pipeline, topic and partition, as the workers last saw the ends."""
    return _rows(db, Lag, _query("report_lag"))


def shard_errors(db: sa.Engine) -> list[ShardError]:
    """Shards that stand still."""
    return _rows(db, ShardError, _query("report_shard_errors"))


def finals(db: sa.Engine) -> list[Finals]:
    """Tables that emit final rows: how far, and what holds them back."""
    return _rows(db, Finals, _query("report_closings"))


def outboxes(db: sa.Engine) -> list[OutboxRow]:
    """What shards send, by pipeline and writer."""
    return _rows(db, OutboxRow, _query("report_outboxes"))


def pipelines(db: sa.Engine) -> list[PipelineRow]:
    """Switches of the pipelines."""
    return _rows(db, PipelineRow, _query("report_pipelines"))


def restarts(db: sa.Engine) -> list[RestartRow]:
    """Workers that end by themselves; empty while all is well."""
    return _rows(db, RestartRow, _query("report_restarts"))


def fleet(db: sa.Engine) -> FleetRow | None:
    """Who owns the fleet, None before the first tick and after a release."""
    found = _rows(db, FleetRow, _query("report_fleet"))
    return found[0] if found else None


def batch_ranges(
    db: sa.Engine, table_version: str, shards: Sequence[int], window: tuple[int, int] | None = None
) -> list[BatchRange]:
    """The offsets that a row of a table can come from, by shard.

    shards: those that store a part of the row. window: start and end (microseconds) of a row with a window.
    """
    start, end = window or (None, None)
    return _rows(
        db,
        BatchRange,
        _query("report_batch_ranges"),
        table_version=table_version,
        shards=list(shards),
        day=None if start is None else start // 86_400_000_000,
        from_event=start,
        to_event=end,
    )
