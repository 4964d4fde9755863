"""A topic's identity in Kafka: files are in the topic that they went into, not in a later one of the same name."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from headrace.errors import TopicRecreated
from headrace.settings import Settings
from ingestion.producer import explain
from ledger import files
from ledger.connection import Connection, connect
from ledger.files import FileEntry

_SECONDS = 30.0


class TopicIds:
    """Asks Kafka for the ids of topics; each answer is of this moment."""

    def __init__(self, settings: Settings) -> None:
        self._admin = AdminClient({**settings.kafka(), "log_level": 0})

    def now(self, topic: str) -> str | None:
        """The topic's id; None when there is no such topic. `ServiceUnavailable` when Kafka does not answer."""
        try:
            asked = self._admin.describe_topics(TopicCollection([topic]), request_timeout=_SECONDS)
            return str(asked[topic].result().topic_id)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                return None
            raise explain(error, f"Kafka did not describe topic {topic}") from error


def refuse_recreated(settings: Settings, topics: Iterable[str]) -> None:
    """Raise `TopicRecreated` when the ledger has files in one of the topics and they are not in it any more.

    To be asked before topics are made: a topic that was deleted must not come back empty with nobody noticing. Rows
    from before the ledger kept ids belong to the topic as it is now.
    """
    ids = TopicIds(settings)
    with closing(connect(settings.need_postgres(), application="headrace ingest")) as db:
        for topic in topics:
            now = ids.now(topic)
            if now is not None:
                files.adopt(db, topic, now)
            lost = files.others(db, topic, now)
            if lost:
                raise _gone(topic, now, f"{lost} files of the ledger are not in it any more")


def compare(db: Connection, entry: FileEntry, now: str | None) -> None:
    """Raise `TopicRecreated` unless the file's topic is the one with the id `now`."""
    if now is not None and not entry.topic_id:
        files.adopt(db, entry.topic, now)
    elif entry.topic_id != now:
        raise _gone(entry.topic, now, f"{entry.name}: what went into it is not there any more")


def _gone(topic: str, now: str | None, what: str) -> TopicRecreated:
    """The error for a topic that was deleted; `now`: id of the one in its place; `what`: what that means."""
    happened = "was deleted and created again" if now else "was deleted"
    return TopicRecreated(
        f"topic {topic} {happened}; {what}. Nothing was produced; run `headrace ingest --forget {topic}`, then the "
        "ingest again, and `headrace pipeline rebuild` for the topic's tables"
    )


def recreate(topic: str) -> str:
    """The remedy when ledger and Kafka disagree and nobody can tell what is in the topic."""
    return (
        f"delete topic {topic} in Kafka, run `headrace ingest --forget {topic}`, then the ingest again, and "
        "`headrace pipeline rebuild` for the topic's tables"
    )
