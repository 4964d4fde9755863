"""An outbox of a shard: what its batches send to one topic."""

from __future__ import annotations

from headrace.settings import Settings
from ledger import Connection, outboxes
from ledger.outboxes import Claim
from stream_workers.emit.publishing import Hit, Outbox, Publisher, described
from stream_workers.log import LogAdmin
from topology.program import Outlet

_RECORDS = {"letters": "dead letters", "changes": "rows", "alerts": "alerts"}


def group_of(outlet: Outlet, shard: int) -> str:
    """The group whose offset is the number of the last record published of a shard."""
    return f"headrace.{outlet.kind}.{outlet.name}.{shard}"


class ShardPublisher(Publisher):
    """Publishes what the batches of one shard put into one of its outboxes."""

    def __init__(self, settings: Settings, kafka: LogAdmin, outlet: Outlet, claim: Claim, hit: Hit) -> None:
        self._claim = claim
        if outlet.declared:
            log = described(kafka, outlet.topic, outlet.declared.partitions, outlet.name)
        else:
            log = kafka.describe(outlet.topic)
        box = Outbox(
            pipeline=claim.pipeline,
            writer=claim.writer,
            shard=claim.shard,
            topic=outlet.topic,
            group=group_of(outlet, claim.shard),
            # No pipeline's name has a colon: it is nobody else's id.
            transactional_id=f"headrace-{claim.pipeline}:{outlet.kind}:{outlet.name}:{claim.shard}",
            where=f"{outlet.name} shard {claim.shard} to {outlet.topic}",
            records=_RECORDS[outlet.kind],
        )
        super().__init__(settings, box, claim, log, hit)

    def _standing(self, db: Connection) -> Claim:
        return outboxes.standing(db, self._claim)

    def _mirror(self, db: Connection, seq: int) -> None:
        outboxes.sent(db, self._claim, seq)
