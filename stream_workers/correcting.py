"""Corrections: dead letters replayed by the owner of their shard, between two batches (engine rule E5).

A correction goes the way of a batch: decoded (and enriched), given a fate, merged in one transaction that begins with a
compare-and-set. It differs in three things: it is never late and never a duplicate, it moves neither offset nor
watermark, and it is counted as `replayed`, outside the accounting identity. A record that is refused again stays a dead
letter.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from headrace.failpoint import Failpoints
from headrace.logging import fields
from ledger import Connection, corrections, dead_letters, outboxes, skipped
from ledger.corrections import Correction, Kind, Outcome
from ledger.dead_letters import DeadLetter
from stream_workers.batch import Batch, Envelope
from stream_workers.committing import merge
from stream_workers.emit import changes
from stream_workers.emit.changes import sends
from stream_workers.emit.steps import ChangeStep
from stream_workers.lookups import vector_of
from stream_workers.opening import ShardState, TableState
from stream_workers.routing import Forced, Poison, Refusal, Routed, Router
from stream_workers.steps import CorrectionStep
from topology.program import TableProgram
from topology.window import Count

log = logging.getLogger(__name__)

_NO_DATE = -1  # a record whose Kafka timestamp is no date: every event time is too far ahead of it

Decode = Callable[[Batch], Batch]


@dataclass(frozen=True)
class Decision:
    """Entries that are decided together, in their order. taken: those whose record is replayed, by offset.

    batch, routed: these records, and what they mean for the table; None where there are none.
    """

    found: Sequence[Correction]
    taken: Sequence[Correction]
    batch: Batch | None
    routed: Routed | None

    def outcomes(self) -> list[Outcome]:
        """What becomes of each entry of this table; entries of other tables have none."""
        refused = {self.taken[r.index].seq: (r.reason, r.detail) for r in self.routed.refusals} if self.routed else {}
        outcomes = []
        for one in (one for one in self.found if one.ours):
            kind: Kind = "needless"
            if one.counts:
                kind = "dropped" if one.action == "drop" else "refused" if one.seq in refused else "replayed"
            outcomes.append(Outcome(one.seq, one.offset, kind, *refused.get(one.seq, ("", ""))))
        return outcomes


Commit = Callable[[TableProgram, ShardState, Decision], TableState]  # writes a decision; the state to adopt


def correct(
    db: Connection,
    failpoints: Failpoints,
    decode: Decode,
    router: Router,
    programs: Mapping[str, TableProgram],
    state: ShardState,
    commit: Commit | None = None,
) -> bool:
    """Decide what is due for each table of a shard, and adopt it; whether there may be more.

    Raises as `committing.commit` does. An entry about a record that the table has not read yet waits, with all that
    follow it. commit: where decisions are written, by default with the rows in Postgres.
    """
    more = False
    write = commit or partial(_commit, db, failpoints)
    for version, table in sorted(state.tables.items()):
        of = (programs[version].name, version, state.shard, state.topic, state.shard)
        at_once = state.corrections_at_once(version)
        found = corrections.due(db, *of, table.correction_seq, at_once)
        unread = next((n for n, one in enumerate(found) if one.ours and one.offset >= table.next_offset), len(found))
        ready = found[:unread]
        if ready:
            ready = left_out(db, programs[version], state, ready)
            failpoints.hit(CorrectionStep.READ)
            _decide(write, decode, router, programs[version], state, ready)
            failpoints.hit(CorrectionStep.ADOPTED)
        more |= len(ready) == at_once
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
    write: Commit,
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
        batch, routed = None, None
        if taken and isinstance(program.table.window, Count):
            routed = _counted_already(table, taken)
        elif taken:
            batch = decode(batch_of(state.topic, state.shard, taken))
            routed = router.route(batch, {version: table.watermark}, forced or Forced())[version]
        state.tables[version] = write(program, state, Decision(found, taken, batch, routed))
    except Poison as poison:
        if forced is not None:
            raise
        if len(found) == 1:
            refused = Forced({poison.version_id: (poison.reason, poison.detail)})
            _decide(write, decode, router, program, state, found, refused)
            return
        for part in (found[: len(found) // 2], found[len(found) // 2 :]):
            _decide(write, decode, router, program, state, part)


def _counted_already(table: TableState, taken: Sequence[Correction]) -> Routed:
    """Windows of records go by offset: a record in the middle would move all that come after it in its key."""
    why = "the records after it have been counted; send a corrected record to the topic, and drop this one"
    refusals = tuple(Refusal(index, "counted_by_offset", why) for index in range(len(taken)))
    return Routed(0, 0, 0, refusals, 0, table.watermark, None, None, None, ())


def step_of(
    program: TableProgram, state: ShardState, decision: Decision, outcomes: Sequence[Outcome]
) -> corrections.Step:
    """How a table moves over the entries."""
    table, routed = state.tables[program.version_id], decision.routed
    return corrections.Step(
        table_version=program.version_id,
        shard=state.shard,
        epoch=table.epoch,
        topic=state.topic,
        partition=state.shard,
        next_offset=table.next_offset,
        from_seq=table.correction_seq,
        to_seq=decision.found[-1].seq,
        replayed=sum(one.outcome == "replayed" for one in outcomes),
        min_event=routed.min_event if routed else None,
        max_event=routed.max_event if routed else None,
        lookup_vector=vector_of(program, decision.batch) if decision.batch else None,
    )


def note(program: TableProgram, state: ShardState, outcomes: Sequence[Outcome]) -> None:
    """Say what was decided."""
    counts = {kind: sum(one.outcome == kind for one in outcomes) for kind in ("replayed", "refused", "dropped")}
    log.info("corrections %s", fields(table=program.name, shard=state.shard, **counts))


def _commit(
    db: Connection, failpoints: Failpoints, program: TableProgram, state: ShardState, decision: Decision
) -> TableState:
    outcomes, routed = decision.outcomes(), decision.routed
    step = step_of(program, state, decision, outcomes)
    with db.transaction():
        corrections.advance(db, step)
        box = state.outboxes[program.version_id] if routed and sends(program, routed) else None
        sent = {program.version_id: outboxes.lock(db, box.claim)} if box else {}
        failpoints.hit(CorrectionStep.ADVANCED)
        days = merge(db, failpoints, program, state.shard, routed).days if routed else ()
        for writer, seq in sent.items():
            sent[writer] = changes.send(db, state.outboxes[writer], seq, program)
            failpoints.hit(ChangeStep.NUMBERED)
        failpoints.hit(CorrectionStep.MERGED)
        dead_letters.record(db, _letters(program, state, decision.taken))
        corrections.decide(db, step, outcomes)
        if routed and routed.applied:
            done = [one.offset for one in outcomes if one.outcome == "replayed"]
            corrections.index(db, step, done, days)
        failpoints.hit(CorrectionStep.DECIDED)
    failpoints.hit(CorrectionStep.COMMITTED)
    note(program, state, outcomes)
    state.sent |= sent
    return replace(state.tables[program.version_id], correction_seq=step.to_seq)


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
