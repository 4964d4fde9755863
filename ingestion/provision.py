"""Schemas and topics as declared: made when they are missing, compared when they are there, never altered silently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigEntry, ConfigResource, NewTopic, ResourceType

from headrace.errors import SchemaIncompatible
from headrace.settings import Settings
from ingestion.producer import explain
from schemas import avro
from schemas.registry import Registry, subject_of
from topology import Derived, Topic, duration

_SECONDS = 30.0
State = Literal["created", "ok", "drift"]


@dataclass(frozen=True)
class TopicState:
    """A topic after provisioning. drift: one line for each difference between declaration and Kafka."""

    name: str
    state: State
    schema_id: int
    drift: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """What provisioning found and made."""

    topics: tuple[TopicState, ...]

    @property
    def schema_ids(self) -> Mapping[str, int]:
        """The id of each topic's schema in the registry, 0 for a JSON topic."""
        return {topic.name: topic.schema_id for topic in self.topics}

    @property
    def drift(self) -> tuple[str, ...]:
        """Every difference, one line each."""
        return tuple(line for topic in self.topics for line in topic.drift)

    def __str__(self) -> str:
        return ", ".join(f"{topic.name}: {topic.state}" for topic in self.topics)


def provision(settings: Settings, topics: Sequence[Topic]) -> Report:
    """Register each topic's schema, then make the topics that are missing, with their dead-letter topics.

    Schemas come first and must be able to read what is in the topic (BACKWARD): `SchemaIncompatible` before anything
    is produced. Differences in partitions or retention are reported as drift; nothing that exists is altered.
    """
    registry = Registry(settings.need_registry(), settings.registry_config)
    ids = {topic.name: 0 for topic in topics if topic.format == "json"}
    framed = [topic for topic in topics if topic.format == "avro"]
    ids |= {topic.name: registry.register(subject_of(topic.name), topic.shape) for topic in framed}
    admin = AdminClient({**settings.kafka(), "log_level": 0})
    try:
        present = set(admin.list_topics(timeout=_SECONDS).topics)
        created = {topic.name for topic in topics if topic.name not in present and _make(admin, topic)}
        sources = [topic.source for topic in topics if isinstance(topic, Derived)]
        for name, partitions in {t.dead_letters: t.partitions for t in (*sources, *topics) if t.dead_letters}.items():
            if name not in present:
                _create(admin, name, partitions, _kept(None))
        drift = _drift(admin, [topic for topic in topics if topic.name not in created])
    except KafkaException as error:
        raise explain(error, "Kafka did not provide the topics") from error
    return Report(
        tuple(
            TopicState(
                topic.name,
                "created" if topic.name in created else "drift" if drift[topic.name] else "ok",
                ids[topic.name],
                tuple(drift.get(topic.name, ())),
            )
            for topic in topics
        )
    )


def compare(settings: Settings, topics: Sequence[Topic]) -> dict[str, tuple[str, ...]]:
    """What each topic has otherwise than declared, in Kafka and in the registry; nothing is made or altered."""
    registry = Registry(settings.need_registry(), settings.registry_config)
    admin = AdminClient({**settings.kafka(), "log_level": 0})
    try:
        present = set(admin.list_topics(timeout=_SECONDS).topics)
        found = _drift(admin, [topic for topic in topics if topic.name in present])
    except KafkaException as error:
        raise explain(error, "Kafka did not describe the topics") from error
    missing = "the topic is declared and Kafka has none; run `headrace provision`"
    return {
        topic.name: (*found.get(topic.name, [f"{topic.name}: {missing}"]), *_schema_drift(registry, topic))
        for topic in topics
    }


def _schema_drift(registry: Registry, topic: Topic) -> list[str]:
    if topic.format == "json":
        return []  # the registry knows nothing of it
    subject = subject_of(topic.name)
    file = f"schemas/{topic.schema}" if topic.schema else topic.shape_name
    try:
        latest = registry.latest(subject)
    except SchemaIncompatible as error:
        return [f"{topic.name}: {error}; {file} is declared"]
    if latest is None:
        return [f"{topic.name}: the registry has no {subject}; run `headrace provision` to register {file}"]
    declared, registered = topic.shape, latest.schema
    if declared.parsed == registered.parsed:
        return []
    names = dict.fromkeys((*declared.by_name, *registered.by_name))
    differing = [name for name in names if _field(declared, name) != _field(registered, name)]
    what = f"differ in {', '.join(differing)}" if differing else "differ in name, order or documentation"
    return [
        f"{topic.name}: {file} and version {latest.version} of {subject} in the registry {what}; run `headrace "
        "provision` to register the file, or bring the file up to the registry"
    ]


def _field(schema: avro.AvroSchema, name: str) -> object:
    return next((field for field in schema.parsed["fields"] if field["name"] == name), None)


def _config(topic: Topic) -> dict[str, str]:
    return {"cleanup.policy": "compact"} if topic.compacted else _kept(topic.retention)


def _kept(retention: str | None) -> dict[str, str]:
    milliseconds = duration.micros(retention) // 1_000 if retention else -1
    return {"retention.ms": str(milliseconds), "cleanup.policy": "delete"}


def _make(admin: AdminClient, topic: Topic) -> bool:
    return _create(admin, topic.name, topic.partitions, _config(topic))


def _create(admin: AdminClient, name: str, partitions: int, config: dict[str, str]) -> bool:
    """Make a topic, with the broker's replication factor; False when somebody else just did."""
    new = NewTopic(name, num_partitions=partitions, replication_factor=-1, config=config)
    try:
        admin.create_topics([new], operation_timeout=_SECONDS)[name].result(_SECONDS)
    except KafkaException as error:
        if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
            return False
        raise
    return True


def _drift(admin: AdminClient, topics: Sequence[Topic]) -> dict[str, list[str]]:
    """What each existing topic has otherwise than declared."""
    if not topics:
        return {}
    resources = {topic.name: ConfigResource(ResourceType.TOPIC, topic.name) for topic in topics}
    configs = admin.describe_configs(list(resources.values()))
    metadata = admin.list_topics(timeout=_SECONDS).topics
    found: dict[str, list[str]] = {}
    for topic in topics:
        lines = found[topic.name] = []
        partitions = len(metadata[topic.name].partitions)
        if partitions != topic.partitions:
            lines.append(
                f"{topic.name}: {topic.partitions} partitions are declared and Kafka has {partitions}; declare "
                f"partitions={partitions}, because keys stay in their partitions only while the number does not change"
            )
        entries: dict[str, ConfigEntry] = configs[resources[topic.name]].result(_SECONDS)
        for name, declared in _config(topic).items():
            present = entries[name].value
            if present != declared:
                lines.append(
                    f"{topic.name}: {name}={declared} is declared and Kafka has {present}; change the declaration, or "
                    f"the topic with kafka-configs --alter --topic {topic.name} --add-config {name}={declared}"
                )
    return found
