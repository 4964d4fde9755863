"""What a person does when log and ledger disagree: build the tables anew, or go on from what the ledger holds."""

from __future__ import annotations

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from headrace.clock import SYSTEM_CLOCK, Clock
from headrace.errors import ServiceUnavailable
from headrace.settings import Settings
from ledger import connect, table_versions
from stream_workers.source import group_id
from topology.program import PipelineProgram

_TIMEOUT = 10.0
_NOTICE_SECONDS = 2.0  # by then running workers have seen the new epoch and tell the group nothing old any more


def rebuild(program: PipelineProgram, settings: Settings, clock: Clock = SYSTEM_CLOCK) -> list[str]:
    """Forget rows and positions of the pipeline's tables and read the topic from its first kept record again.

    Running workers are fenced by it and begin anew. Dead letters of the old versions go too: the log names them again.
    Returns the table versions that were dropped.
    """
    with connect(settings.need_postgres()) as db:
        dropped = table_versions.drop(db, program.name)
    clock.wait(_NOTICE_SECONDS)
    _forget_hints(program, settings)
    return dropped


def accept(program: PipelineProgram, settings: Settings) -> dict[int, int]:
    """Let Kafka's group stand where the ledger stands, so that workers go on from the ledger's rows.

    Returns the offset by partition. Rows and positions are of one transaction, so nothing is counted twice or left out.
    """
    with connect(settings.need_postgres()) as db:
        at = table_versions.positions(db, program.name, program.topic.name)
    group = group_id(program.name)
    offsets = [TopicPartition(program.topic.name, partition, offset) for partition, offset in at.items()]
    try:
        admin = AdminClient(settings.kafka())
        admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, offsets)], request_timeout=_TIMEOUT)[
            group
        ].result()
    except KafkaException as error:
        raise ServiceUnavailable(f"Kafka did not take the offsets of group {group}: {error.args[0].str()}") from error
    return at


def _forget_hints(program: PipelineProgram, settings: Settings) -> None:
    group = group_id(program.name)
    try:
        admin = AdminClient(settings.kafka())  # kept in a name: its answer never comes once it is garbage
        admin.delete_consumer_groups([group], request_timeout=_TIMEOUT)[group].result()
    except KafkaException as error:
        if error.args[0].code() != KafkaError.GROUP_ID_NOT_FOUND:
            raise ServiceUnavailable(
                f"Kafka did not delete group {group}: {error.args[0].str()};"
                " the tables are dropped; run the command again"
            ) from error
