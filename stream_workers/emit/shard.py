"""The outbox of a shard: dead letters of a pipeline's tables on their way to the dead-letter topic."""

from __future__ import annotations

from headrace.settings import Settings
from ledger import Connection, outboxes
from ledger.outboxes import Claim
from stream_workers.emit.publishing import Hit, Outbox, Publisher
from stream_workers.log import LogAdmin


def group_of(pipeline: str, shard: int) -> str:
    """The group whose offset is the number of the last dead letter published of a shard."""
    return f"headrace.letters.{pipeline}.{shard}"


class ShardPublisher(Publisher):
    """Publishes what the batches of one shard put into its outbox."""

    def __init__(self, settings: Settings, kafka: LogAdmin, topic: str, claim: Claim, hit: Hit) -> None:
        self._claim = claim
        box = Outbox(
            pipeline=claim.pipeline,
            writer=claim.pipeline,
            shard=claim.shard,
            topic=topic,
            group=group_of(claim.pipeline, claim.shard),
            # No pipeline's name has a colon: it is nobody else's id.
            transactional_id=f"headrace-{claim.pipeline}:letters:{claim.shard}",
            where=f"{claim.pipeline} shard {claim.shard} to {topic}",
            records="dead letters",
        )
        super().__init__(settings, box, claim, kafka.describe(topic), hit)

    def _standing(self, db: Connection) -> Claim:
        return outboxes.standing(db, self._claim)

    def _mirror(self, db: Connection, seq: int) -> None:
        outboxes.sent(db, self._claim, seq)
