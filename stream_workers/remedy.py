"""What a person does when log and ledger disagree: build the tables anew, or go on from what the ledger holds."""

from __future__ import annotations

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from headrace.errors import ServiceUnavailable
from headrace.settings import Settings
from ledger import connect, table_versions
from stream_workers import versions
from stream_workers.source import group_id
from topology.program import PipelineProgram

_TIMEOUT = 10.0


def rebuild(program: PipelineProgram, settings: Settings) -> list[str]:
    """Forget rows and positions of the pipeline's tables and read the topic from its first kept record again.

    Drops the old versions and registers the declared ones in one transaction: running workers are fenced, those of the
    same declaration begin anew, those of another are refused. Dead letters of the old versions go too: the log names
    them again. The group's offsets need no care, they carry the build they belong to. Returns the versions dropped.
    """
    with connect(settings.need_postgres()) as db, db.transaction():
        dropped = table_versions.drop(db, program.name)
        versions.register(db, program)
    return dropped


def accept(program: PipelineProgram, settings: Settings) -> dict[int, int]:
    """Let Kafka's group stand where the ledger stands, so that workers go on from the ledger's rows.

    Returns the offset by partition. Rows and positions are of one transaction, so nothing is counted twice or left out.
    """
    with connect(settings.need_postgres()) as db:
        at = table_versions.positions(db, program.name, program.topic.name)
        born = table_versions.born(db, program.name)
    offsets = [TopicPartition(program.topic.name, partition, offset, born) for partition, offset in at.items()]
    set_offsets(settings, group_id(program.name), offsets)
    return at


def set_offsets(settings: Settings, group: str, offsets: list[TopicPartition]) -> None:
    """Set the offsets of a group that has no members."""
    try:
        admin = AdminClient(settings.kafka())
        admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, offsets)], request_timeout=_TIMEOUT)[
            group
        ].result()
    except KafkaException as error:
        raise ServiceUnavailable(f"Kafka did not take the offsets of group {group}: {error.args[0].str()}") from error
