"""The corrections log: what people decided about dead letters, and what became of it.

The command line appends to the log; the owner of a shard decides each entry once, between two batches, in a
transaction like that of a batch: `correction_seq` of the position moves in the same compare-and-set, and the dead
letter changes its state with the rows (engine rule E5). Entries belong to coordinates and a table's name, so that a
table built anew decides them again: a table is a function of its log and its corrections.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Literal

from headrace.errors import Fenced
from ledger.connection import Connection
from ledger.sql import sql

Action = Literal["replay", "drop"]
Kind = Literal["replayed", "refused", "dropped", "needless"]
_LOCK = 0x48454143  # any constant that only the log's appends use
MANY = (
    100  # entries that Postgres has to know of at once: without, it walks along all of them for each (10 s for 10,000)
)


@dataclass(frozen=True)
class Wish:
    """A dead letter of one table version; payload: in place of the record's own, None to replay it as it is."""

    record_id: int
    table_version: str
    payload: bytes | None = None


@dataclass(frozen=True)
class Correction:
    """An entry as the owner of its shard reads it, with the record it is about.

    ours: whether it concerns the table that asks. state: of the dead letter, None when the record is none of this table
    version. latest: no later entry is about the same record and table. payload: what it is replayed with, record: what
    the log has. left_out: `late` or `duplicate`, when this build of the table has counted the record as that.
    """

    seq: int
    offset: int
    ours: bool
    action: Action
    payload: bytes | None
    key: bytes | None
    headers: Mapping[str, str]
    kafka_timestamp: datetime | None
    state: str | None
    latest: bool
    record: bytes | None = None
    left_out: str | None = None

    @property
    def counts(self) -> bool:
        """Whether there is anything to decide: a record that is not in the table yet, and no later word on it."""
        return self.ours and self.latest and (self.left_out is not None or self.state in ("open", "dropped"))


@dataclass(frozen=True)
class Outcome:
    """What became of an entry; reason and detail of a record that was refused again."""

    seq: int
    offset: int
    outcome: Kind
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Step:
    """How one table version moves over entries (from_seq, to_seq]. Event times of applied records, microseconds."""

    table_version: str
    shard: int
    epoch: int
    topic: str
    partition: int
    next_offset: int
    from_seq: int
    to_seq: int
    replayed: int
    min_event: int | None
    max_event: int | None
    lookup_vector: str | None = None  # see ledger.lookups


def replay(db: Connection, wishes: Sequence[Wish], requested_by: str, note: str = "") -> list[tuple[int, str]]:
    """Ask for dead letters to be replayed; returns (record id, table version) of the entries made.

    Left out are dead letters that were replayed, those with a replay that was not decided yet, and those that no owner
    of a shard decides: lines of files, records of archives. A drop is taken back by it.
    """
    with db.transaction():
        return _add(db, wishes, "replay", requested_by, note)


def drop(db: Connection, wishes: Sequence[Wish], requested_by: str, note: str) -> list[tuple[int, str]]:
    """Mark open dead letters as dropped; returns (record id, table version) of those marked.

    The mark is there at once. The entry in the log makes it again when the table is built anew.
    """
    with db.transaction():
        _add(db, wishes, "drop", requested_by, note)
        rows = db.execute(sql("dead_letter_drop"), _given(wishes, requested_by, note))
        return sorted((int(row[0]), str(row[1])) for row in rows)


def _add(db: Connection, wishes: Sequence[Wish], action: Action, requested_by: str, note: str) -> list[tuple[int, str]]:
    db.execute("select pg_advisory_xact_lock(%s)", (_LOCK,))
    states = ["open"] if action == "drop" else ["open", "dropped"]
    given = {**_given(wishes, requested_by, note), "action": action, "states": states}
    added = [(int(row[0]), str(row[1])) for row in db.execute(sql("correction_add"), given)]
    if len(added) >= MANY:
        db.execute("analyze ledger.corrections")
    return added


def _given(wishes: Sequence[Wish], requested_by: str, note: str) -> dict[str, object]:
    return {
        "record_id": [wish.record_id for wish in wishes],
        "table_version": [wish.table_version for wish in wishes],
        "payload": [wish.payload for wish in wishes],
        "requested_by": requested_by,
        "note": note,
    }


def last(db: Connection, topic: str, partitions: Sequence[int]) -> dict[int, int]:
    """Number of the newest entry by partition; 0 where there is none."""
    rows = db.execute(
        "select p, coalesce((select max(seq) from ledger.corrections where topic = %s and partition = p), 0)"
        " from unnest(%s::int[]) as p",
        (topic, list(partitions)),
    )
    return {row[0]: row[1] for row in rows}


def replayed(db: Connection, table: str) -> list[bytes | None]:
    """Payloads that dead letters of a live table were replayed with, in the order of their coordinates."""
    rows = db.execute(
        "select coalesce(c.payload, c.record, r.payload) from ledger.correction_outcomes o"
        " join ledger.table_versions v using (table_version)"
        " join ledger.corrections c using (topic, partition, seq)"
        " left join ledger.dead_letter_records r"
        ' on r.topic = o.topic and r.partition = o.partition and r."offset" = o."offset"'
        " where v.table_name = %s and v.role = 'live' and o.outcome = 'replayed'"
        ' order by o.topic, o.partition, o."offset"',
        (table,),
    )
    return [row[0] for row in rows]


def due(
    db: Connection, table: str, table_version: str, shard: int, topic: str, partition: int, seq: int, limit: int
) -> list[Correction]:
    """Entries after `seq`, oldest first, at most `limit`; also those that concern other tables."""
    given = {
        "table": table,
        "table_version": table_version,
        "shard": shard,
        "topic": topic,
        "partition": partition,
        "seq": seq,
        "limit": limit,
    }
    return [Correction(*row) for row in db.execute(sql("correction_due"), given)]


def advance(db: Connection, step: Step) -> None:
    """Compare-and-set of epoch, offset and correction_seq; `Fenced` when one is not what the worker believes."""
    if db.execute(sql("correction_advance"), asdict(step)).fetchone() is None:
        raise Fenced(
            f"{step.table_version} shard {step.shard}: another worker owns {step.topic}[{step.partition}] or decided"
            f" correction {step.from_seq + 1} (our epoch {step.epoch}); nothing was written"
        )


def decide(db: Connection, step: Step, outcomes: Sequence[Outcome]) -> None:
    """Note the outcomes and move the dead letters; `Fenced` when one of them is not in the state it was read in."""
    if not outcomes:
        return
    given = {
        "table_version": step.table_version,
        "topic": step.topic,
        "partition": step.partition,
        "seq": [one.seq for one in outcomes],
        "offset": [one.offset for one in outcomes],
        "outcome": [one.outcome for one in outcomes],
        "reason": [one.reason for one in outcomes],
        "detail": [one.detail.replace("\0", "\N{REPLACEMENT CHARACTER}") for one in outcomes],
    }
    row = db.execute(sql("correction_decide"), given).fetchone()
    wanted = sum(one.outcome != "needless" for one in outcomes)
    if row is None or row[0] != wanted:
        raise Fenced(
            f"{step.table_version} shard {step.shard}: a dead letter changed while its correction was decided;"
            " nothing was written"
        )


def index(db: Connection, step: Step, offsets: Sequence[int], days: Sequence[int]) -> None:
    """Note which days the applied records touched, as the batch index does for batches."""
    if offsets:
        given = {"from_offset": min(offsets), "to_offset": max(offsets) + 1, "days": list(days)}
        db.execute(sql("correction_index"), {**asdict(step), **given})
