"""Forget what went into a topic, so that its files are ingested again: after the topic was deleted."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from headrace.errors import UsageError
from headrace.settings import Settings
from ingestion.producer import PositionedProducer, explain
from ingestion.topics import TopicIds
from ledger import files
from ledger.connection import connect
from ledger.files import FileEntry

_SECONDS = 30.0
_NO_OFFSET = {KafkaError.GROUP_ID_NOT_FOUND, KafkaError.UNKNOWN_TOPIC_OR_PART}


@dataclass(frozen=True)
class Known:
    """What the ledger has for a topic. in_topic: files that went into the topic as it is now and may be in it still."""

    topic: str
    files: int
    in_topic: int


def look(topic: str, settings: Settings) -> Known:
    """What `forget` would forget; `UsageError` when that is nothing."""
    now = TopicIds(settings).now(topic)
    with closing(connect(settings.need_postgres(), application="headrace ingest")) as db:
        entries = files.of_topic(db, topic)
        if not entries:
            there = ", ".join(files.topics(db)) or "none"
            raise UsageError(
                f'the ledger has no files of topic "{topic}"; nothing was changed; topics with files: {there}'
            )
    return Known(topic, len(entries), sum(now is not None and entry.topic_id in ("", now) for entry in entries))


def forget(topic: str, settings: Settings) -> int:
    """Forget positions and rows of the topic's files; how many. Records, rejected lines and tables stay.

    Kafka's positions go first: what is interrupted in between is finished by forgetting again. `Claimed` when a file is
    being ingested; a process that only stood still is fenced.
    """
    with closing(connect(settings.need_postgres(), application="headrace ingest")) as db:
        entries = files.of_topic(db, topic)
        for entry in entries:
            if not entry.completed:
                files.claim(db, entry.content_hash, topic)
                producer = PositionedProducer(settings, topic, entry.transactional_id, entry.group_id)
                with closing(producer):
                    producer.initialise()
        alone = [entry for entry in entries if not files.shared(db, entry)]
        admin = AdminClient({**settings.kafka(), "log_level": 0})
        _delete(admin, [entry.group_id for entry in alone])
        _to_start(admin, topic, [entry for entry in entries if entry not in alone])
        return files.forget(db, topic)


def _delete(admin: AdminClient, groups: Sequence[str]) -> None:
    if not groups:
        return
    for answer in admin.delete_consumer_groups(list(groups), request_timeout=_SECONDS).values():
        try:
            answer.result()
        except KafkaException as error:
            if error.args[0].code() not in _NO_OFFSET:
                raise explain(error, "Kafka did not forget a file's position") from error


def _to_start(admin: AdminClient, topic: str, entries: Sequence[FileEntry]) -> None:
    """Position 0 for files whose group holds the position in another topic too."""
    for entry in entries:
        at = ConsumerGroupTopicPartitions(entry.group_id, [TopicPartition(topic, 0, 0)])
        try:
            answer = admin.alter_consumer_group_offsets([at], request_timeout=_SECONDS)[entry.group_id].result()
        except KafkaException as error:
            if error.args[0].code() not in _NO_OFFSET:
                raise explain(error, "Kafka did not forget a file's position") from error
            continue
        for partition in answer.topic_partitions:
            if partition.error is not None and partition.error.code() not in _NO_OFFSET:
                raise explain(KafkaException(partition.error), "Kafka did not forget a file's position")
