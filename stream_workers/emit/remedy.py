"""What a person does when Kafka's offset of an outbox is gone, went back or is ahead: go on from the ledger."""

from __future__ import annotations

from confluent_kafka import TopicPartition

from headrace.settings import Settings
from ledger import closings, connect, outboxes
from stream_workers.emit import shard as shard_outbox
from stream_workers.emit.closing import final_of
from stream_workers.emit.finals import group_of
from stream_workers.emit.publishing import Published
from stream_workers.log import LogAdmin
from stream_workers.remedy import set_offsets
from topology.program import PipelineProgram


def accept(program: PipelineProgram, settings: Settings) -> None:
    """Let Kafka's groups stand where the ledger stands, for every table that emits and all that shards send.

    Records that Kafka has and the ledger does not know of are sent again where their rows are emitted again.
    """
    kafka = LogAdmin(settings)
    with connect(settings.need_postgres()) as db:
        for table in (table for table in program.tables if table.final):
            found = closings.published(db, table.version_id)
            if found is None:
                continue
            topic = final_of(table).topic.name
            metadata = Published(found[1], kafka.describe(topic).topic_id).dump()
            set_offsets(settings, group_of(topic), [TopicPartition(topic, 0, found[0], metadata)])
        for outlet in program.outlets:
            for shard, seq, born in outboxes.published(db, outlet.writer):
                metadata = Published(born, kafka.describe(outlet.topic).topic_id).dump()
                group = shard_outbox.group_of(outlet, shard)
                set_offsets(settings, group, [TopicPartition(outlet.topic, 0, seq, metadata)])
