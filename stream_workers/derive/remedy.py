"""What a person does when Kafka's position of a derived topic is gone or went back: go on from the ledger's mirror."""

from __future__ import annotations

from confluent_kafka import TopicPartition

from headrace.settings import Settings
from ledger import connect, made
from stream_workers.derive.position import Made, group_of
from stream_workers.log import LogAdmin
from stream_workers.remedy import set_offsets
from topology.program import PipelineProgram


def accept(program: PipelineProgram, settings: Settings) -> dict[int, int]:
    """Let Kafka's groups stand where the ledger stands; returns the offset by partition of the furthest topic.

    A record that was produced by a transaction whose mirror is missing would go in a second time: there is at most one
    such transaction per partition, of a worker that was killed between the two and never started again.
    """
    kafka = LogAdmin(settings)
    found: dict[int, int] = {}
    with connect(settings.need_postgres()) as db:
        for table in program.tables:
            output_id = kafka.describe(table.name).topic_id
            offsets = []
            for mirror in made.mirrors(db, table.version_id):
                position = Made(
                    version=table.version,
                    source_id=mirror.topic_id,
                    output_id=output_id,
                    first_offset=mirror.first_offset,
                    next_offset=mirror.next_offset,
                    consumed=mirror.consumed,
                    applied=mirror.applied,
                    filtered=mirror.filtered,
                    dead_lettered=mirror.dead_lettered,
                    control=mirror.control,
                    gaps=mirror.gaps,
                    watermark=mirror.watermark,
                    marker=mirror.ended,
                    correction_seq=mirror.correction_seq,
                )
                where = TopicPartition(program.topic.name, mirror.partition, mirror.next_offset, position.dump())
                offsets.append(where)
                found[mirror.partition] = max(found.get(mirror.partition, 0), mirror.next_offset)
            if offsets:
                set_offsets(settings, group_of(table.name), offsets)
    return found
