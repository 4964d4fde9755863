"""How everything stands, in one read-only snapshot: what sensor ticks and checks judge.

Moments are as they were written; ages are for the caller, who has a clock.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from psycopg.rows import class_row

from ledger import fleet
from ledger.closings import Finals
from ledger.connection import Connection
from ledger.fleet import Fleet
from ledger.sql import sql

Row = TypeVar("Row")


@dataclass(frozen=True)
class Place:
    """One partition as one live table version has consumed it.

    end_offset, next_timestamp, seen_at: how far the partition reaches, the Kafka timestamp of its oldest unread record,
    and when that was seen. level_at: when the position last stood at the end. committed_at: of the last batch.
    replayed: dead letters that are in the rows by now; `dead_lettered` keeps them.
    """

    table: str
    table_version: str
    pipeline: str
    created_at: datetime
    shard: int
    topic: str
    partition: int
    first_offset: int
    next_offset: int
    gaps: int
    consumed: int
    applied: int
    late: int
    duplicate: int
    dead_lettered: int
    filtered: int
    control: int
    late_applied: int
    level_at: datetime | None
    end_offset: int | None
    next_timestamp: datetime | None
    seen_at: datetime | None
    error: str | None
    claimed_at: datetime | None
    committed_at: datetime | None
    replayed: int = 0

    @property
    def build(self) -> str:
        """Names this build of the table: `headrace pipeline rebuild` makes another one of the same version."""
        return f"{self.table_version} {self.created_at.isoformat()}"

    @property
    def holds(self) -> bool:
        """Whether both accounting identities hold."""
        fates = self.applied + self.late + self.duplicate + self.dead_lettered + self.filtered + self.control
        return self.consumed == fates and self.next_offset - self.first_offset == self.consumed + self.gaps

    @property
    def behind(self) -> int | None:
        """Offsets not consumed yet, None while nobody has seen the end."""
        return None if self.end_offset is None else max(0, self.end_offset - self.next_offset)


@dataclass(frozen=True)
class Switch:
    """A pipeline's switch, and how often its worker failed in a row."""

    pipeline: str
    desired: str
    changed_at: datetime
    override: str | None
    override_until: datetime | None
    failures: int
    last_error: str | None

    def on(self, now: datetime) -> bool:
        """Whether workers should run: an override that has not expired, else the toggle."""
        return (self.override if self.overridden(now) else self.desired) == "on"

    def overridden(self, now: datetime) -> bool:
        """Whether an override is in force."""
        return self.override is not None and self.override_until is not None and self.override_until > now


@dataclass(frozen=True)
class Worker:
    """A worker process that has not said goodbye."""

    worker: str
    pipeline: str
    state: str
    started_at: datetime
    heartbeat_at: datetime
    records_per_s: float
    last_error: str | None


@dataclass(frozen=True)
class Touched:
    """Commits that changed rows of a day (days since 1970; None: a table without windows): offsets [from, to)."""

    table_version: str
    partition: int
    day: int | None
    from_offset: int
    to_offset: int


@dataclass(frozen=True)
class Observed:
    """The snapshot. volumes: records applied in the 24 hours of each age (0: the newest), by table version.

    finals: by table, for those that emit their final rows.
    """

    places: tuple[Place, ...]
    switches: Mapping[str, Switch]
    workers: tuple[Worker, ...]
    fleet: Fleet | None
    touched: tuple[Touched, ...] = ()
    volumes: Mapping[str, Mapping[int, int]] | None = None
    finals: Mapping[str, Finals] = field(default_factory=dict)

    def table(self, name: str) -> list[Place]:
        """The partitions of a table."""
        return [place for place in self.places if place.table == name]

    def pipeline(self, name: str) -> list[Place]:
        """The partitions of all tables of a pipeline."""
        return [place for place in self.places if place.pipeline == name]


Since = Mapping[tuple[str, int], int]  # (build, partition) -> the offset up to which touched days are known


def observe(
    db: Connection, now: datetime, tables: Collection[str], *, since: Since | None = None, volumes: bool = False
) -> Observed:
    """Everything in one snapshot; touched days only with `since` (places it lacks count from their first offset).

    tables: those that are declared. What the ledger still holds of others is nobody's to keep true.
    """
    with db.transaction():
        db.execute("set transaction isolation level repeatable read, read only")
        places = _rows(db, Place, "observe_places", {"tables": list(tables)})
        switches = _rows(db, Switch, "observe_pipelines")
        workers = _rows(db, Worker, "observe_workers")
        touched = [] if since is None else _touched(db, places, since)
        found = _volumes(db, now) if volumes else None
        finals = {one.table: one for one in _rows(db, Finals, "report_closings")}
        return Observed(
            tuple(places),
            {s.pipeline: s for s in switches},
            tuple(workers),
            fleet.owner(db),
            tuple(touched),
            found,
            finals,
        )


def _touched(db: Connection, places: Sequence[Place], since: Since) -> list[Touched]:
    moved = [p for p in places if p.next_offset > since.get((p.build, p.partition), p.first_offset)]
    given = {
        "versions": [p.table_version for p in moved],
        "shards": [p.shard for p in moved],
        "topics": [p.topic for p in moved],
        "partitions": [p.partition for p in moved],
        "since": [since.get((p.build, p.partition), p.first_offset) for p in moved],
    }
    return _rows(db, Touched, "observe_touched", given) if moved else []


def _volumes(db: Connection, now: datetime) -> dict[str, dict[int, int]]:
    found: dict[str, dict[int, int]] = {}
    for version, age, applied in db.execute(sql("observe_volume"), {"now": now}):
        found.setdefault(version, {})[age] = applied
    return found


def _rows(db: Connection, kind: type[Row], name: str, given: Mapping[str, Any] | None = None) -> list[Row]:
    with db.cursor(row_factory=class_row(kind)) as cursor:
        return cursor.execute(sql(name), given).fetchall()
