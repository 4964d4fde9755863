"""Closings: which rows of a table are final, decided by one closer per table version (engine rule C2).

The closer's row has an epoch of its own, as a shard has: of two workers that believe to close a table only the newest
can write. Moments are microseconds since 1970.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psycopg

from headrace.errors import Fenced, ServiceUnavailable
from ledger.connection import Connection
from ledger.outbox import CLOSER
from ledger.sql import sql

_CLAIM_WAIT = "2s"  # engine rule B1: a claim that waits longer ends the old owner's backend
_ATTEMPTS = 3


@dataclass(frozen=True)
class Claim:
    """A claimed closer. born: which build of the table. announced: whether Kafka has an offset of this build."""

    table_version: str
    epoch: int
    born: str
    outbox_seq: int
    published_seq: int
    announced: bool


@dataclass(frozen=True)
class Closing:
    """Where a closer stands: windows that end at or before `closed_through` are final by the watermarks.

    ended_mark: `moved` of all inputs when end-of-input markers closed rows beyond that.
    """

    closed_through: int | None
    ended_mark: int | None
    outbox_seq: int
    published_seq: int


@dataclass(frozen=True)
class Input:
    """How far a partition has come. moved: grows with everything that is consumed of it or corrected in it.

    idle: it has been read to its end for as long as the table declares; never where it declares nothing.
    """

    partition: int
    watermark: int | None
    ended: int | None
    moved: int
    idle: bool = False


@dataclass(frozen=True)
class Finals:
    """How far a table's rows are final and published. silent: partitions that have shown no event time at all.

    slowest: the partition that is least far, watermark: how far it is, furthest: how far the others are. ended: whether
    every partition ends in an end-of-input marker. by_offset: rows are final when they are full, whatever the event
    times.
    """

    pipeline: str
    table: str
    closed_through: int | None
    outbox_seq: int
    published_seq: int
    error: str | None
    silent: list[int]
    slowest: int | None
    watermark: int | None
    furthest: int | None
    ended: bool
    by_offset: bool = False

    @property
    def unpublished(self) -> int:
        """Records that wait for Kafka."""
        return self.outbox_seq - self.published_seq

    @property
    def waits_for(self) -> str | None:
        """What holds rows back, None for nothing."""
        if self.by_offset:
            return None
        if self.silent:
            names = f"partition{'s' if len(self.silent) > 1 else ''} {', '.join(map(str, self.silent))}"
            return f"Final waits for {names}: no event time has come from there, and no end-of-input marker"
        if self.ended or self.watermark is None or self.watermark == self.furthest:
            return None
        return f"Final waits for partition {self.slowest}, which has come to {shown(self.watermark)}"


def shown(micros: int | None) -> str:
    """A moment for people."""
    if micros is None:
        return "none"
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)).strftime("%Y-%m-%d %H:%M:%SZ")


def claim(db: Connection, table_version: str, worker: str) -> Claim:
    """Claim the closer of a registered table version; waits at most two seconds for a commit in flight."""
    key = {"table_version": table_version, "worker": worker}
    for _ in range(_ATTEMPTS):
        try:
            with db.transaction():
                db.execute(f"set local lock_timeout = '{_CLAIM_WAIT}'".encode())
                db.execute(
                    "insert into ledger.closings (table_version) select table_version from ledger.table_versions"
                    " where table_version = %(table_version)s on conflict do nothing",
                    key,
                )
                row = db.execute(sql("closing_claim"), key).fetchone()
                if row is None:
                    raise ServiceUnavailable(f"{table_version} is not registered now; it is being built anew")
                return Claim(table_version, *row)
        except psycopg.errors.LockNotAvailable:
            db.execute(sql("closing_terminate_owner"), key)
    raise ServiceUnavailable(f"{table_version}: another session holds the closer for over {_ATTEMPTS} x {_CLAIM_WAIT}")


def lock(db: Connection, table_version: str, epoch: int) -> Closing:
    """First statement of a commit: lock the closer's row; `Fenced` when another worker has claimed it."""
    row = db.execute(sql("closing_lock"), {"table_version": table_version, "epoch": epoch}).fetchone()
    if row is None:
        raise Fenced(f"{table_version}: another worker closes it (our epoch {epoch}); nothing was written")
    return Closing(*row)


def inputs(db: Connection, table_version: str) -> list[Input]:
    """Every partition that was ever opened, as committed."""
    return [Input(*row) for row in db.execute(sql("closing_inputs"), {"table_version": table_version})]


def move(db: Connection, table_version: str, to: Closing) -> None:
    """Write where the closer stands; after `lock`, in the same transaction."""
    db.execute(
        sql("closing_move"),
        {
            "table_version": table_version,
            "closed_through": to.closed_through,
            "ended_mark": to.ended_mark,
            "outbox_seq": to.outbox_seq,
        },
    )


def sent(db: Connection, table_version: str, epoch: int, seq: int) -> None:
    """Kafka has everything up to `seq`: note it and drop it from the outbox, at once; `Fenced` as `lock`."""
    given = {"table_version": table_version, "epoch": epoch, "seq": seq, "shard": CLOSER}
    if db.execute(sql("closing_sent"), given).fetchone() is None:
        raise Fenced(f"{table_version}: another worker publishes it (our epoch {epoch}); the mirror is its to write")


def note(db: Connection, table_version: str, error: str | None) -> None:
    """Keep the reason why final rows stand still (None: they run) where `headrace status` finds it."""
    db.execute(
        "update ledger.closings set error = %s where table_version = %s and error is distinct from %s",
        (error, table_version, error),
    )


def published(db: Connection, table_version: str) -> tuple[int, str] | None:
    """The sequence that the ledger knows to be published, and the build's name; None for a closer never claimed."""
    row = db.execute(
        "select c.published_seq, v.created_at::text from ledger.closings c join ledger.table_versions v"
        " using (table_version) where table_version = %s",
        (table_version,),
    ).fetchone()
    return (int(row[0]), str(row[1])) if row else None
