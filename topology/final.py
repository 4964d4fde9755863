"""Final rows of a windowed table as records of a topic."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from topology.topic import Topic

if TYPE_CHECKING:
    from schemas.avro import AvroSchema


@dataclass(frozen=True)
class Final:
    """Emit each row of the table to `topic` once it is final, and again with the next revision when it changes.

    partitions: of the topic, by default those of the table's source. retention: how long Kafka keeps its records
    (`None`: without limit).
    """

    topic: str
    partitions: int = 0
    retention: str | None = None


@dataclass(frozen=True)
class FinalTopic(Topic):
    """The topic of a table's final rows. table: the table's name, record: the Avro schema of its records as JSON."""

    table: str = ""
    record: str = ""

    @cached_property
    def shape(self) -> AvroSchema:
        """The schema of its records: the table's columns, and the revision."""
        from schemas.avro import parse

        return parse(self.record, self.shape_name)

    @property
    def shape_name(self) -> str:
        """What errors call the schema."""
        return f"the columns of {self.table}"
