"""Opening a shard: the one path for start, claim, error and ambiguity (engine rule B3).

1. Raise the epoch: waits for a commit in flight, fences every later one of an old owner.
2. Look at the log; begin at the first kept offset where a table has never read the partition.
3. Compare: same topic, same partition count, position neither deleted nor beyond the end, group not ahead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from headrace.errors import LedgerBehindKafka, LogTruncated, PartitionsChanged, RetentionPassed, TopicRecreated
from ledger import Connection, outboxes, shards
from stream_workers.log import LogAdmin, LogState
from stream_workers.source import group_id
from topology.program import Outlet, PipelineProgram

_CORRECTIONS = 500  # some 10 ms, and batches wait for no more than that


@dataclass
class TableState:
    """What the owner of a shard carries for one table; replaced only after a commit."""

    version_id: str
    epoch: int
    next_offset: int
    watermark: int | None
    ended: int | None
    leader_epoch: int
    index_entry: int | None = None
    correction_seq: int = 0


@dataclass(frozen=True)
class Outbox:
    """A claimed outbox of a shard, and what goes through it. schema_id: of rows, as the registry knows their schema."""

    claim: outboxes.Claim
    outlet: Outlet
    schema_id: int = 0


@dataclass
class ShardState:
    """A claimed shard: its tables by version id, and the topic they read. `born` names this build of the tables.

    outboxes: of what it sends, by writer; sent: number of the last record of each that is committed.
    """

    shard: int
    topic: str
    born: str
    tables: dict[str, TableState] = field(default_factory=dict)
    outboxes: dict[str, Outbox] = field(default_factory=dict, kw_only=True)
    sent: dict[str, int] = field(default_factory=dict, kw_only=True)

    @property
    def next_offset(self) -> int:
        """Where reading goes on: at the table that is furthest behind."""
        return min(table.next_offset for table in self.tables.values())

    @property
    def kept_offset(self) -> int:
        """Up to where the ledger has everything: where reading goes on, unless batches are held back."""
        return self.next_offset

    def corrections_at_once(self, version: str) -> int:
        """How many corrections of a table are decided in one transaction at most."""
        return _CORRECTIONS

    def edges(self) -> list[int]:
        """Offsets at which a batch is cut, because something else is true before than after."""
        return [table.next_offset for table in self.tables.values()]


def open_shard(
    db: Connection,
    kafka: LogAdmin,
    program: PipelineProgram,
    shard: int,
    worker: str,
    schema_ids: Mapping[str, int] = MappingProxyType({}),
) -> tuple[ShardState, str]:
    """Claim shard number `shard`; returns its state and the topic's id. schema_ids: of what tables emit, by writer.

    Raises an `OffsetError` when log and ledger disagree, and resets nothing.
    """
    topic = program.topic.name
    claims, boxes = _claim(db, program, shard, worker, schema_ids)
    log = kafka.describe(topic)  # after the claim: the old owner can no longer move a position beyond the end seen here
    if log.partitions != program.topic.partitions:
        raise PartitionsChanged(
            f"{topic} has {log.partitions} partitions, the declaration says {program.topic.partitions};"
            f" nothing was consumed; declare partitions={log.partitions}"
            f" and run `headrace pipeline rebuild {program.name}`"
        )
    with db.transaction():
        for claim in claims:
            if topic not in claim.positions:
                shards.start(db, claim, topic, shard, log.topic_id, log.low[shard])
    state = ShardState(shard, topic, min(claim.born for claim in claims), outboxes=boxes)
    state.sent = {writer: box.claim.outbox_seq for writer, box in boxes.items()}
    for claim in claims:
        position = claim.positions.get(topic)
        if position:
            compare(position, log, program.name)
        state.tables[claim.table_version] = TableState(
            claim.table_version,
            claim.epoch,
            position.next_offset if position else log.low[shard],
            position.watermark if position else None,
            position.ended if position else None,
            position.leader_epoch if position else -1,
            correction_seq=position.correction_seq if position else 0,
        )
    _compare_hint(kafka, state, program.name)
    return state, log.topic_id


def _claim(
    db: Connection, program: PipelineProgram, shard: int, worker: str, schema_ids: Mapping[str, int]
) -> tuple[list[shards.Claim], dict[str, Outbox]]:
    """The tables' shard, and with it the outboxes of what they send."""
    versions = sorted(table.version_id for table in program.tables)
    with db.transaction():
        claims = shards.claim(db, versions, shard, worker)
        return claims, claim_outboxes(db, program, shard, worker, schema_ids)


def claim_outboxes(
    db: Connection, program: PipelineProgram, shard: int, worker: str, schema_ids: Mapping[str, int]
) -> dict[str, Outbox]:
    """The outboxes of a shard by writer, inside the transaction that has claimed it."""
    outlets = sorted(program.outlets, key=lambda one: one.writer)
    claims = [outboxes.claim(db, program.name, one.writer, shard, worker) for one in outlets]
    return {
        one.writer: Outbox(claim, one, schema_ids.get(one.writer, 0))
        for one, claim in zip(outlets, claims, strict=True)
    }


def _compare_hint(kafka: LogAdmin, state: ShardState, pipeline: str) -> None:
    """The group's offset follows the ledger: when it is ahead, the ledger has gone back in time (engine rule B8)."""
    hint = kafka.committed(group_id(pipeline), state.topic, state.shard)
    if hint is None or hint[1] != state.born:
        return  # no work was committed yet for this build of the tables
    furthest = max(table.next_offset for table in state.tables.values())
    if hint[0] > furthest:
        raise LedgerBehindKafka(
            f"{state.topic}[{state.shard}]: the ledger stands at offset {furthest}, but work up to {hint[0]} was"
            " committed before: Postgres was restored to an older state; nothing was consumed; to go on from the"
            f" ledger's rows run `headrace pipeline accept {pipeline}`,"
            f" to start over `headrace pipeline rebuild {pipeline}`"
        )


def compare(position: shards.Position, log: LogState, pipeline: str) -> None:
    """Hold a position against the log; raises what is wrong with the command to type."""
    where = f"{position.topic}[{position.partition}]"
    remedy = f"nothing was reset; to build the tables anew from the topic run `headrace pipeline rebuild {pipeline}`"
    if position.topic_id != log.topic_id:
        raise TopicRecreated(
            f"{where}: the topic was deleted and created again (id {position.topic_id}, now {log.topic_id});"
            f" the ledger's offset {position.next_offset} belongs to the old one; {remedy}"
        )
    low, end = log.low[position.partition], log.end[position.partition]
    if position.next_offset < low:
        raise RetentionPassed(
            f"{where}: records {position.next_offset} to {low - 1} were deleted before they were consumed; {remedy}"
        )
    if position.next_offset > end:
        raise LogTruncated(
            f"{where}: the log ends at {end}, before the ledger's offset {position.next_offset}; {remedy}"
        )
