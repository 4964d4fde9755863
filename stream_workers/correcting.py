"""Corrections: dead letters replayed by the owner of their shard, between two batches (engine rule E5).

A correction goes the way of a batch: decoded (and enriched), given a fate, merged in one transaction that begins with a
compare-and-set. It differs in three things: it is never late and never a duplicate, it moves neither offset nor
watermark, and it is counted as `replayed`, outside the accounting identity. A record that is refused again stays a dead
letter.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from headrace.failpoint import Failpoints
from headrace.logging import fields
from ledger import Connection, corrections, dead_letters, skipped
from ledger.corrections import Correction, Kind, Outcome
from ledger.dead_letters import DeadLetter
from stream_workers.batch import Batch, Envelope
from stream_workers.committing import merge
from stream_workers.lookups import vector_of
from stream_workers.opening import ShardState, TableState
from stream_workers.routing import Forced, Poison, Refusal, Routed, Router
from stream_workers.steps import CorrectionStep
from topology.program import TableProgram
from topology.window import Count

log = logging.getLogger(__name__)

_AT_ONCE = 500  # entries decided in one transaction: some 10 ms, and batches wait for no more than that
_NO_DATE = -1  # a record whose Kafka timestamp is no date: every event time is too far ahead of it

Decode = Callable[[Batch], Batch]


def correct(
    db: Connection,
    failpoints: Failpoints,
    decode: Decode,
    router: Router,
    programs: Mapping[str, TableProgram],
    state: ShardState,
) -> bool:
    """Decide what is due for each table of a shard, and adopt it; whether there may be more.

    Raises as `committing.commit` does. An entry about a record that the table has not read yet waits, with all that
    follow it.
    """
    more = False
    for version, table in sorted(state.tables.items()):
        of = (programs[version].name, version, state.shard, state.topic, state.shard)
        found = corrections.due(db, *of, table.correction_seq, _AT_ONCE)
        unread = next((n for n, one in enumerate(found) if one.ours and one.offset >= table.next_offset), len(found))
        ready = found[:unread]
        if ready:
            ready = left_out(db, programs[version], state, ready)
            failpoints.hit(CorrectionStep.READ)
            _decide(db, failpoints, decode, router, programs[version], state, ready)
        more |= len(ready) == _AT_ONCE
    return more


def left_out(db: Connection, program: TableProgram, state: ShardState, found: Sequence[Correction]) -> list[Correction]:
    """These entries, with what became of their records where that was late or duplicate.

    Whoever asked has made a letter of it, which is gone when the table is built anew; the batch index knows for each
    build. A record that this build has applied is in neither, and its entry is needless.
    """
    unknown = [one for one in found if one.ours and one.latest and one.state is None and one.action == "replay"]
    if not unknown or not (program.drops_late or program.ids):
        return list(found)
    fates = skipped.fates(db, program.version_id, state.topic, state.shard, [one.offset for one in unknown])
    fate_of = {one.seq: fates.get(one.offset) for one in unknown}
    return [replace(one, left_out=fate_of.get(one.seq)) for one in found]


def batch_of(topic: str, partition: int, found: Sequence[Correction]) -> Batch:
    """The records as they are to be applied, in the order of their offsets."""
    stamps = [_NO_DATE if c.kafka_timestamp is None else round(c.kafka_timestamp.timestamp() * 1000) for c in found]
    return Batch(
        shard=partition,
        topic=topic,
        partition=partition,
        from_offset=found[0].offset,
        to_offset=found[-1].offset + 1,
        leader_epoch=-1,
        level=False,
        payloads=[one.payload for one in found],
        offsets=np.array([one.offset for one in found], np.int64),
        timestamps=np.array(stamps, np.int64),
        envelope=lambda index: Envelope(found[index].key, dict(found[index].headers)),
        corrected=True,
    )


def _decide(
    db: Connection,
    failpoints: Failpoints,
    decode: Decode,
    router: Router,
    program: TableProgram,
    state: ShardState,
    found: Sequence[Correction],
    forced: Forced | None = None,
) -> None:
    """Decide these entries in one transaction; where a record poisons it, halve until that record stands alone."""
    version = program.version_id
    table = state.tables[version]
    taken = sorted((one for one in found if one.counts and one.action == "replay"), key=lambda one: one.offset)
    try:
        routed, vector = None, None
        if taken and isinstance(program.table.window, Count):
            routed = _counted_already(table, taken)
        elif taken:
            batch = decode(batch_of(state.topic, state.shard, taken))
            routed = router.route(batch, {version: table.watermark}, forced or Forced())[version]
            vector = vector_of(program, batch)
        adopted = _commit(db, failpoints, program, state, found, taken, routed, vector)
    except Poison as poison:
        if forced is not None:
            raise
        if len(found) == 1:
            refused = Forced({poison.version_id: (poison.reason, poison.detail)})
            _decide(db, failpoints, decode, router, program, state, found, refused)
            return
        for part in (found[: len(found) // 2], found[len(found) // 2 :]):
            _decide(db, failpoints, decode, router, program, state, part)
        return
    state.tables[version] = adopted
    failpoints.hit(CorrectionStep.ADOPTED)


def _counted_already(table: TableState, taken: Sequence[Correction]) -> Routed:
    """Windows of records go by offset: a record in the middle would move all that come after it in its key."""
    why = "the records after it have been counted; send a corrected record to the topic, and drop this one"
    refusals = tuple(Refusal(index, "counted_by_offset", why) for index in range(len(taken)))
    return Routed(0, 0, 0, refusals, 0, table.watermark, None, None, None, ())


def _commit(
    db: Connection,
    failpoints: Failpoints,
    program: TableProgram,
    state: ShardState,
    found: Sequence[Correction],
    taken: Sequence[Correction],
    routed: Routed | None,
    vector: str | None,
) -> TableState:
    table = state.tables[program.version_id]
    outcomes = _outcomes(found, taken, routed)
    counts = {kind: sum(one.outcome == kind for one in outcomes) for kind in ("replayed", "refused", "dropped")}
    step = corrections.Step(
        table_version=program.version_id,
        shard=state.shard,
        epoch=table.epoch,
        topic=state.topic,
        partition=state.shard,
        next_offset=table.next_offset,
        from_seq=table.correction_seq,
        to_seq=found[-1].seq,
        replayed=counts["replayed"],
        min_event=routed.min_event if routed else None,
        max_event=routed.max_event if routed else None,
        lookup_vector=vector,
    )
    with db.transaction():
        corrections.advance(db, step)
        failpoints.hit(CorrectionStep.ADVANCED)
        days = merge(db, failpoints, program, state.shard, routed) if routed else ()
        failpoints.hit(CorrectionStep.MERGED)
        dead_letters.record(db, _letters(program, state, taken))
        corrections.decide(db, step, outcomes)
        if routed and routed.applied:
            done = [one.offset for one in outcomes if one.outcome == "replayed"]
            corrections.index(db, step, done, days)
        failpoints.hit(CorrectionStep.DECIDED)
    failpoints.hit(CorrectionStep.COMMITTED)
    log.info("corrections %s", fields(table=program.name, shard=state.shard, **counts))
    return replace(table, correction_seq=step.to_seq)


def _letters(program: TableProgram, state: ShardState, taken: Sequence[Correction]) -> list[DeadLetter]:
    """Letters of what this build of the table left out, and nobody has asked for since."""
    return [
        DeadLetter(
            topic=state.topic,
            table_version=program.version_id,
            reason=one.left_out,
            partition=state.shard,
            offset=one.offset,
            payload=one.record,
            key=one.key,
            headers=dict(one.headers),
            kafka_timestamp=one.kafka_timestamp,
        )
        for one in taken
        if one.left_out is not None
    ]


def _outcomes(found: Sequence[Correction], taken: Sequence[Correction], routed: Routed | None) -> list[Outcome]:
    """What becomes of each entry of this table; entries of other tables have none."""
    refused = {taken[r.index].seq: (r.reason, r.detail) for r in routed.refusals} if routed else {}
    outcomes = []
    for one in (one for one in found if one.ours):
        kind: Kind = "needless"
        if one.counts:
            kind = "dropped" if one.action == "drop" else "refused" if one.seq in refused else "replayed"
        outcomes.append(Outcome(one.seq, one.offset, kind, *refused.get(one.seq, ("", ""))))
    return outcomes
