"""Shards: claiming one, and where its tables stand.

A shard is partition number i of all inputs of a pipeline. Claiming raises the epoch of every table version of it; a
commit compares the epoch first, so that of two workers that believe to own a shard only the newest one can write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psycopg

from headrace.errors import ServiceUnavailable
from ledger.connection import Connection
from ledger.sql import sql

_CLAIM_WAIT = "2s"  # engine rule B1: a claim that waits longer ends the old owner's backend
_ATTEMPTS = 3


@dataclass(frozen=True)
class Position:
    """Where one table version stands in one partition, and in its corrections. Event times in microseconds."""

    topic: str
    partition: int
    topic_id: str
    leader_epoch: int
    first_offset: int
    next_offset: int
    watermark: int | None
    ended: int | None
    correction_seq: int = 0


@dataclass(frozen=True)
class Claim:
    """A claimed shard of one table version; `positions` by topic, empty at its first start.

    born: when the version was registered in this ledger, which tells one build of a table from the next.
    """

    table_version: str
    shard: int
    epoch: int
    born: str
    positions: Mapping[str, Position]


def claim(db: Connection, table_versions: Sequence[str], shard: int, worker: str) -> list[Claim]:
    """Claim a shard of all `table_versions` in one transaction, in the order of their names.

    Waits at most two seconds for a commit in flight; then ends the backend that holds the lock and tries again.
    """
    for _ in range(_ATTEMPTS):
        try:
            with db.transaction():
                db.execute(f"set local lock_timeout = '{_CLAIM_WAIT}'")
                return [_claim_one(db, version, shard, worker) for version in sorted(table_versions)]
        except psycopg.errors.LockNotAvailable:
            for version in sorted(table_versions):
                db.execute(sql("shard_terminate_owner"), {"table_version": version, "shard": shard})
    raise ServiceUnavailable(f"shard {shard}: another session holds its lock for over {_ATTEMPTS} x {_CLAIM_WAIT}")


def _claim_one(db: Connection, version: str, shard: int, worker: str) -> Claim:
    key = {"table_version": version, "shard": shard, "worker": worker}
    db.execute(
        "insert into ledger.shards (table_version, shard) values (%(table_version)s, %(shard)s) on conflict do nothing",
        key,
    )
    row = db.execute(sql("shard_claim"), key).fetchone()
    assert row is not None  # inserted above, in the same transaction
    positions = {r[0]: Position(*r) for r in db.execute(sql("position_read"), key)}
    born = db.execute(
        "select created_at::text from ledger.table_versions where table_version = %s", (version,)
    ).fetchone()
    assert born is not None  # the shard's row refers to it
    return Claim(version, shard, row[0], born[0], positions)


def start(db: Connection, claim: Claim, topic: str, partition: int, topic_id: str, first_offset: int) -> None:
    """Write the position of a table version that has never read this partition."""
    db.execute(
        sql("position_start"),
        {
            "table_version": claim.table_version,
            "shard": claim.shard,
            "topic": topic,
            "partition": partition,
            "topic_id": topic_id,
            "first_offset": first_offset,
        },
    )


def epochs(db: Connection, table_versions: Sequence[str]) -> dict[tuple[str, int], int]:
    """Epoch by table version and shard, as the ledger has them now."""
    rows = db.execute(
        "select table_version, shard, epoch from ledger.shards where table_version = any(%s)", (list(table_versions),)
    )
    return {(version, shard): epoch for version, shard, epoch in rows}


def note(db: Connection, table_versions: Sequence[str], shard: int, error: str | None) -> None:
    """Keep the reason why a shard stands still (None: it runs) where `headrace status` finds it."""
    db.execute(
        "update ledger.shards set error = %s"
        " where shard = %s and table_version = any(%s) and error is distinct from %s",
        (error, shard, list(table_versions), error),
    )


def errors(db: Connection, pipeline: str) -> list[str]:
    """Why shards of a pipeline stand still, each reason once."""
    rows = db.execute(
        "select distinct s.error from ledger.shards s join ledger.table_versions v using (table_version)"
        " where v.pipeline = %s and v.role = 'live' and s.error is not null order by 1",
        (pipeline,),
    )
    return [row[0] for row in rows]
