"""Topics: what a message looks like, when it happened and what makes it valid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from schemas.avro import AvroSchema

Format = Literal["avro", "json"]
TimeFormat = Literal["iso8601", "ms", "us", "s"]


@dataclass(frozen=True)
class EventTime:
    """The column that says when an event happened.

    `format` is `iso8601` text, or an integer in `s`, `ms` or `us` since 1970-01-01 UTC. `zone` is the zone of texts
    that carry none (an IANA name); without it a text without zone is a dead letter, because nobody knows its moment.
    """

    column: str
    format: TimeFormat
    zone: str | None = None


@dataclass(frozen=True)
class Topic:
    """A Kafka topic and the contract of its records.

    schema: path of the `.avsc` file below `schemas/`. key: column whose text is the record key. require: conditions
    (SQL, by name) that must be TRUE. max_ahead: how far an event may lie after its Kafka timestamp. not_before: ISO
    date; earlier events are dead letters `before_start`; the first partition (UTC day) of windowed tables. retention:
    how long Kafka keeps records (`None`: without limit). pipeline: name of the worker group that reads the topic.
    dead_letters: name of the dead-letter topic. not_finite: float columns that may be NaN or infinite. format: how
    records are written, `avro` (framed, with the registry's schema id) or `json` (objects with the schema's fields).
    """

    name: str
    schema: str
    key: str
    event_time: EventTime
    partitions: int = 1
    pipeline: str | None = None
    dead_letters: str | None = None
    require: Mapping[str, str] = field(default_factory=dict)
    max_ahead: str = "1 hour"
    not_before: str | None = None
    retention: str | None = None
    not_finite: tuple[str, ...] = ()
    description: str = ""
    owners: tuple[str, ...] = ()
    format: Format = "avro"

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The columns that the record key is made of."""
        return (self.key,)

    @property
    def depth(self) -> int:
        """How many steps of ours it is away from topics that others fill."""
        return 0

    @property
    def compacted(self) -> bool:
        """Whether Kafka keeps the last record of each key, and no more."""
        return False

    @property
    def pipeline_name(self) -> str:
        """Name of the worker group that reads this topic."""
        return self.pipeline or self.name

    @property
    def shape(self) -> AvroSchema:
        """The schema of its records; raises `DeclarationError`."""
        from schemas.avro import load

        return load(self.schema)

    @property
    def shape_name(self) -> str:
        """What errors call the schema."""
        return self.schema
