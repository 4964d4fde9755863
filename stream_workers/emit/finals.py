"""The outbox of a closer: final rows of one table on their way to its topic."""

from __future__ import annotations

from headrace.settings import Settings
from ledger import Connection, closings
from ledger.closings import Claim
from ledger.outbox import CLOSER
from stream_workers.emit.closing import final_of
from stream_workers.emit.publishing import Hit, Outbox, Publisher, described
from stream_workers.log import LogAdmin
from topology.program import TableProgram


def group_of(topic: str) -> str:
    """The group whose offset is the number of the last record published to a table's topic."""
    return f"headrace.final.{topic}"


class FinalPublisher(Publisher):
    """Publishes what the closer of one table decides."""

    def __init__(
        self, settings: Settings, kafka: LogAdmin, pipeline: str, table: TableProgram, claim: Claim, hit: Hit
    ) -> None:
        topic = final_of(table).topic
        log = described(kafka, topic.name, topic.partitions, table.name)
        self._claim = claim
        box = Outbox(
            pipeline=pipeline,
            writer=table.version_id,
            shard=CLOSER,
            topic=topic.name,
            group=group_of(topic.name),
            transactional_id=f"headrace-{pipeline}-final-{table.name}",
            where=f"{table.name} to {topic.name}",
            records="final rows",
        )
        super().__init__(settings, box, claim, log, hit)

    def _standing(self, db: Connection) -> Claim:
        with db.transaction():
            closings.lock(db, self._claim.table_version, self._claim.epoch)
        return self._claim

    def _mirror(self, db: Connection, seq: int) -> None:
        closings.sent(db, self._claim.table_version, self._claim.epoch, seq)
