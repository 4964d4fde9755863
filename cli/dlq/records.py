"""The record of a dead letter as JSON, and an edited one as bytes of its topic."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.errors import UsageError
from headrace.settings import Settings
from topology import Topic

if TYPE_CHECKING:
    from schemas.avro import AvroSchema


def text_of(record_id: int, topic_name: str, payload: bytes | None, settings: Settings) -> str:
    """A record as JSON to edit; `UsageError` for one that cannot be read."""
    from schemas import editing
    from schemas.registry import Registry

    topic = _topic(topic_name)
    registry = None if topic.format == "json" else Registry(settings.need_registry(), settings.registry_config)
    try:
        return editing.to_json(payload, topic.format, topic.shape, registry.schema if registry else _none)
    except UsageError as error:
        fields = ", ".join(field.name for field in topic.shape.fields)
        raise UsageError(
            f"the record of dead letter {record_id} cannot be shown as JSON: {error}; write one by hand ({fields}) and"
            f" run `headrace dlq replay {record_id} --edit FILE`"
        ) from error


def edited(topic_name: str, text: bytes, place: str, settings: Settings) -> bytes:
    """The bytes of a record that is written as JSON; `UsageError` names the place and what does not fit."""
    from schemas import editing
    from schemas.registry import Registry, subject_of

    topic, schema_id = _topic(topic_name), 0
    if topic.format == "avro":
        registry = Registry(settings.need_registry(), settings.registry_config)
        schema_id = registry.register(subject_of(topic.name), topic.shape)
    try:
        return editing.from_json(text, topic.format, topic.shape, schema_id)
    except UsageError as error:
        named = "standard input" if place == "-" else place
        raise UsageError(f"{named} is no record of {topic.name}: {error}; nothing was replayed") from error


def _topic(name: str) -> Topic:
    from cli.catalog import load

    found = load().topics
    if name not in found:
        raise UsageError(f'no topic "{name}" is declared; there is: {", ".join(sorted(found)) or "none"}')
    return found[name]


def _none(schema_id: int) -> AvroSchema:
    raise AssertionError("JSON records have no schema id")
