"""Outboxes of shards: one for each shard and thing that a pipeline sends, claimed together with the shard.

Its row has an epoch of its own: a publisher looks at it without a lock on the rows that batches lock.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from headrace.errors import Fenced, Transient
from ledger.connection import Connection
from ledger.outbox import UNPUBLISHED
from ledger.sql import sql


class OutboxFull(Transient):
    """Too many records wait for Kafka."""


@dataclass(frozen=True)
class Claim:
    """A claimed outbox. born: which build. announced: whether Kafka has an offset of this build.

    writer: whose records are in it, a pipeline's (dead letters) or a table version's.
    """

    pipeline: str
    writer: str
    shard: int
    epoch: int
    born: str
    outbox_seq: int
    published_seq: int
    announced: bool


def claim(db: Connection, pipeline: str, writer: str, shard: int, worker: str) -> Claim:
    """Claim an outbox of a shard, inside the transaction that has claimed the shard."""
    given = {"pipeline": pipeline, "writer": writer, "shard": shard, "worker": worker}
    row = db.execute(sql("outbox_claim"), given).fetchone()
    assert row is not None  # inserted or updated
    return Claim(pipeline, writer, shard, *row)


def lock(db: Connection, mine: Claim) -> int:
    """Number of the last record, whose row stays locked; after the shard's positions, by writer, in one transaction.

    Raises `Fenced` when another worker has claimed it, `OutboxFull` when too many records are not published yet.
    """
    row = db.execute(sql("outbox_lock"), asdict(mine)).fetchone()
    if row is None:
        raise _fenced(mine, "nothing was written")
    seq, published = int(row[0]), int(row[1])
    if seq - published >= UNPUBLISHED:
        raise OutboxFull(
            f"{mine.writer} shard {mine.shard}: {seq - published:,} records wait for Kafka, which has taken"
            f" {published:,}; the batch that has more waits with them, nothing is lost; `headrace doctor` shows whether"
            " Kafka answers"
        )
    return seq


def move(db: Connection, mine: Claim, seq: int) -> None:
    """Write the number of the last record; after `lock`, in the same transaction."""
    given = (seq, mine.writer, mine.shard)
    db.execute("update ledger.outboxes set outbox_seq = %s where writer = %s and shard = %s", given)


def standing(db: Connection, mine: Claim) -> Claim:
    """The claim with its numbers as they are now; `Fenced` as `lock`."""
    row = db.execute(sql("outbox_stands"), asdict(mine)).fetchone()
    if row is None:
        raise _fenced(mine, "nothing was published")
    return replace(mine, outbox_seq=row[0], published_seq=row[1], announced=row[2])


def sent(db: Connection, mine: Claim, seq: int) -> None:
    """Kafka has everything up to `seq`: note it and drop it from the outbox, at once; `Fenced` as `lock`."""
    if db.execute(sql("outbox_sent"), {**asdict(mine), "seq": seq}).fetchone() is None:
        raise _fenced(mine, "the mirror is its to write")


def note(db: Connection, mine: Claim, error: str) -> None:
    """Keep the reason why nothing is published where `headrace status` finds it; the next success clears it."""
    db.execute(
        "update ledger.outboxes set error = %s where writer = %s and shard = %s and epoch = %s",
        (error, mine.writer, mine.shard, mine.epoch),
    )


def published(db: Connection, writer: str) -> list[tuple[int, int, str]]:
    """Shard, the number that the ledger knows to be published, and the build's name, of every outbox of a writer."""
    rows = db.execute(
        "select shard, published_seq, born::text from ledger.outboxes where writer = %s order by shard", (writer,)
    )
    return [(int(shard), int(seq), str(born)) for shard, seq, born in rows]


def _fenced(mine: Claim, state: str) -> Fenced:
    return Fenced(
        f"{mine.writer} shard {mine.shard}: another worker sends its records (our epoch {mine.epoch}); {state}"
    )
