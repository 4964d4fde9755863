"""Corrections of derived topics: the records made of them go into Kafka with the number of the last entry decided.

1. Records and the position, which names the entries and those of them that were refused, go into Kafka, all or nothing.
2. Epoch, `correction_seq`, outcomes and the letters' states go into the ledger, all or nothing.

What dies between the two is mirrored when the shard is opened again: the same entries are decided as Kafka says, and
nothing is sent.
"""

from __future__ import annotations

from dataclasses import replace

from headrace.failpoint import Failpoints
from ledger import Connection, corrections
from ledger.corrections import Outcome
from stream_workers.correcting import Decision, note, step_of
from stream_workers.derive.committing import Committing
from stream_workers.derive.opening import DerivedShard
from stream_workers.derive.position import Made
from stream_workers.derive.steps import DeriveStep
from stream_workers.opening import ShardState, TableState
from topology.program import TableProgram


class Correcting:
    """Writes decisions about corrections of a derived topic: a `stream_workers.correcting.Commit`."""

    def __init__(self, db: Connection, committing: Committing, failpoints: Failpoints) -> None:
        self._db, self._committing, self._hit = db, committing, failpoints.hit

    def __call__(self, program: TableProgram, state: ShardState, decision: Decision) -> TableState:
        """Both steps; raises as `Committing.commit` does."""
        assert isinstance(state, DerivedShard)
        version, last = program.version_id, decision.found[-1].seq
        held, table = state.made[version], state.tables[version]
        outcomes = decision.outcomes()
        if last <= held.correction_seq:
            outcomes = as_decided(held, outcomes)
        elif outcomes:  # other topics' entries are none of this one's business
            after = decided(held, table.correction_seq, last, outcomes)
            self._committing.send_corrected(state, version, decision.batch, decision.routed, after)
        step = step_of(program, state, decision, outcomes)
        with self._db.transaction():
            self._hit(DeriveStep.CORRECTIONS_MIRRORING)
            corrections.advance(self._db, step)
            corrections.decide(self._db, step, outcomes)
        self._hit(DeriveStep.CORRECTIONS_MIRRORED)
        note(program, state, outcomes)
        return replace(table, correction_seq=last)


def decided(held: Made, from_seq: int, to_seq: int, outcomes: list[Outcome]) -> Made:
    """The position after entries (from_seq, to_seq]: it keeps which of them were refused, a bit for each."""
    refused = sum(1 << (one.seq - from_seq - 1) for one in outcomes if one.outcome == "refused")
    return replace(held, correction_seq=to_seq, decided_from=from_seq, refused=refused)


def as_decided(held: Made, outcomes: list[Outcome]) -> list[Outcome]:
    """Outcomes of entries that Kafka has: those of its last transaction as they were decided then.

    The registry may know by now what it did not know, and nothing is sent for it. Entries of transactions before that
    one are only seen again when the ledger was built anew, and are taken as they are.
    """
    return [_as_decided(held, one) if one.seq > held.decided_from else one for one in outcomes]


def _as_decided(held: Made, one: Outcome) -> Outcome:
    refused = bool(held.refused >> (one.seq - held.decided_from - 1) & 1)
    if one.outcome == "replayed" and refused:
        return replace(one, outcome="refused", reason="refused_before", detail="as it was when Kafka took the others")
    if one.outcome == "refused" and not refused:
        return replace(one, outcome="replayed", reason="", detail="")
    return one
