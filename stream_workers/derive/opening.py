"""Opening a shard of derived topics: Kafka says how far they were made, the ledger's mirror follows.

1. Claim the shard in the ledger: every older owner's mirror is fenced.
2. Take over the transactional id: every older owner's transaction is aborted and fenced.
3. Hold Kafka's positions against the topics and the ledger; nothing is reset.
4. A topic that was never made starts with a position in Kafka, then in the ledger, so that from then on a missing one
   means that Kafka forgot it (engine rule B7).

Where the ledger stands behind Kafka (a worker died in between, Postgres was restored), the records in between are read
again and mirrored, and not produced again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from headrace.errors import (
    DefinitionChanged,
    LedgerBehindKafka,
    LogTruncated,
    OffsetError,
    PartitionsChanged,
    RetentionPassed,
    TopicRecreated,
)
from headrace.failpoint import Failpoints
from ledger import Connection, corrections, shards
from stream_workers.derive import position
from stream_workers.derive.position import Made, group_of
from stream_workers.derive.producer import ShardProducer
from stream_workers.derive.steps import DeriveStep
from stream_workers.log import LogAdmin, LogState
from stream_workers.opening import ShardState, TableState, compare
from topology.derived import Derived
from topology.program import PipelineProgram, TableProgram

_CORRECTIONS = 100  # a bit for each is in the position


@dataclass
class DerivedShard(ShardState):
    """A claimed shard: its producer, and by version id what Kafka holds."""

    producer: ShardProducer | None = None
    made: dict[str, Made] = field(default_factory=dict)

    def corrections_at_once(self, version: str) -> int:
        """No more than the position has room for, and none beyond what Kafka has while these are to be mirrored."""
        ahead = self.made[version].correction_seq - self.tables[version].correction_seq
        return min(_CORRECTIONS, ahead) if ahead > 0 else _CORRECTIONS

    def edges(self) -> list[int]:
        """Also where mirroring alone ends and producing begins."""
        return [*super().edges(), *(made.next_offset for made in self.made.values())]


def open_derived(
    db: Connection,
    kafka: LogAdmin,
    program: PipelineProgram,
    shard: int,
    worker: str,
    failpoints: Failpoints,
    producing: Callable[[], ShardProducer],
) -> tuple[DerivedShard, str]:
    """Claim a shard; returns its state and the source's id. Raises an `OffsetError`, and resets nothing."""
    topic = program.topic.name
    programs = {table.version_id: table for table in program.tables}
    claims = shards.claim(db, sorted(programs), shard, worker)
    log = kafka.describe(topic)
    _check_partitions(log, program.topic.partitions, program.name)
    outputs = {version: kafka.describe(table.name) for version, table in programs.items()}
    for version, output in outputs.items():
        _check_partitions(output, derived_of(programs[version]).partitions, program.name)
    producer = producing()
    try:
        found = producer.fence()
        failpoints.hit(DeriveStep.TAKEN_OVER)
        state = DerivedShard(shard, topic, min(claim.born for claim in claims), producer=producer)
        fresh: dict[str, Made] = {}
        for claim in claims:
            table = programs[claim.table_version]
            held = claim.positions.get(topic)
            made = _held(table, program, shard, found[group_of(table.name)], held, log, outputs[claim.table_version])
            if made is not None:
                _compare_corrections(db, table, made, log, shard, program.name)
            if made is None:
                low = log.low[shard]
                made = Made(table.version, log.topic_id, outputs[claim.table_version].topic_id, low, low)
                fresh[claim.table_version] = made
            state.made[claim.table_version] = made
        if fresh:
            producer.begin()
            producer.commit_positions(positions_of(programs, fresh))
            producer.commit()
        failpoints.hit(DeriveStep.STARTED)
        with db.transaction():
            for claim in claims:
                made = state.made[claim.table_version]
                if topic not in claim.positions:
                    shards.start(db, claim, topic, shard, log.topic_id, made.first_offset)
    except BaseException:
        producer.close()
        raise
    for claim in claims:
        held = claim.positions.get(topic)
        state.tables[claim.table_version] = TableState(
            claim.table_version,
            claim.epoch,
            held.next_offset if held else state.made[claim.table_version].first_offset,
            held.watermark if held else None,
            held.ended if held else None,
            held.leader_epoch if held else -1,
            correction_seq=held.correction_seq if held else 0,
        )
    return state, log.topic_id


def positions_of(programs: Mapping[str, TableProgram], made: Mapping[str, Made]) -> dict[str, tuple[int, str]]:
    """Offset and metadata by group."""
    return {group_of(programs[version].name): (one.next_offset, one.dump()) for version, one in made.items()}


def _held(
    table: TableProgram,
    program: PipelineProgram,
    shard: int,
    found: tuple[int, str] | None,
    mirror: shards.Position | None,
    log: LogState,
    output: LogState,
) -> Made | None:
    """What Kafka holds of a topic, compared with everything else; None when it was never made."""
    where = f"{table.name} from {log.topic}[{shard}]"
    made = position.load(found[0], found[1], where) if found else None
    if made is not None and made.output_id != output.topic_id:
        if mirror is None:
            return None  # of an earlier topic of that name, which is gone
        raise TopicRecreated(
            f"{where}: topic {table.name} was deleted and created again; nothing was produced; to make it anew from the"
            f" first kept record run `headrace pipeline rebuild {program.name}`"
        )
    if made is None:
        if mirror is None:
            return None
        raise OffsetError(
            f"{where}: the ledger stands at offset {mirror.next_offset} and Kafka has none: Kafka forgot the offset of"
            f" group {group_of(table.name)}, as it does after seven days; nothing was produced; to go on from the"
            f" ledger's offset run `headrace pipeline accept {program.name}`"
        )
    if made.version != table.version:
        raise DefinitionChanged(
            f"{where}: the topic was made as {table.name}@{made.version}, the declaration is now {table.version_id};"
            " nothing was produced; undo the change, or give the Derived another name, or delete the topic"
        )
    _compare(where, shard, made, mirror, log, program.name)
    return made


def _compare(where: str, shard: int, made: Made, mirror: shards.Position | None, log: LogState, pipeline: str) -> None:
    if made.source_id != log.topic_id:
        raise TopicRecreated(
            f"{where}: topic {log.topic} was deleted and created again (id {made.source_id}, now {log.topic_id});"
            " nothing was produced; give the Derived another name, or delete its topic too, then run"
            f" `headrace provision` and `headrace pipeline rebuild {pipeline}`"
        )
    if mirror is not None:
        compare(mirror, log, pipeline)
        if made.next_offset < mirror.next_offset:
            raise OffsetError(
                f"{where}: the ledger stands at offset {mirror.next_offset} and Kafka at {made.next_offset}: the"
                " group's offset went back, by hand or because Kafka lost memory; nothing was produced, because records"
                f" could go in twice; to go on from the ledger's offset run `headrace pipeline accept {pipeline}`"
            )
    low, end = log.low[shard], log.end[shard]
    first = mirror.next_offset if mirror else made.first_offset
    if first < low:
        raise RetentionPassed(
            f"{where}: records {first} to {low - 1} were deleted before the ledger counted them; nothing was produced;"
            " give the Derived another name"
        )
    if made.next_offset > end:
        raise LogTruncated(f"{where}: the log ends at {end}, before Kafka's own offset {made.next_offset} of the group")


def _compare_corrections(
    db: Connection, table: TableProgram, made: Made, log: LogState, shard: int, pipeline: str
) -> None:
    """Entries to come would have numbers that Kafka has seen, and nothing would be sent for them."""
    last = corrections.last(db, log.topic, [shard])[shard]
    if made.correction_seq > last:
        raise LedgerBehindKafka(
            f"{table.name} from {log.topic}[{shard}]: Kafka has decided correction {made.correction_seq}, the ledger's"
            f" log of them ends at {last}: Postgres was restored to an older state; nothing was produced; to go on from"
            f" the ledger's corrections run `headrace pipeline accept {pipeline}`"
        )


def _check_partitions(log: LogState, declared: int, pipeline: str) -> None:
    if log.partitions != declared:
        raise PartitionsChanged(
            f"{log.topic} has {log.partitions} partitions, the declaration says {declared}; nothing was produced by"
            f" {pipeline}; keys stay in their partitions only while the number does not change"
        )


def derived_of(table: TableProgram) -> Derived:
    """The declaration of a program of derived topics."""
    assert table.derived is not None  # a pipeline makes tables or topics, never both
    return table.derived
