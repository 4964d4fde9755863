"""Rows of a table as records of a compacted topic: the last one of each key is the row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from topology.emitted import EmittedTopic
from topology.topic import EventTime

if TYPE_CHECKING:
    from topology.aggregate import Aggregate
    from topology.latest import Latest


@dataclass(frozen=True)
class Changes:
    """Emit each row of the table to the compacted topic `topic` whenever a batch may have changed it.

    A row that is there no more (a deleted key, a session that merged into another) is a record without value.
    partitions: of the topic, by default those of the table's source.
    """

    topic: str
    partitions: int = 0


@dataclass(frozen=True)
class ChangesTopic(EmittedTopic):
    """The topic of the changes of table `of`."""

    @property
    def compacted(self) -> bool:
        """Kafka keeps the last record of each key."""
        return True

    @property
    def emitted_when(self) -> str:
        """When a row is sent, for people."""
        return "a batch or a correction changes a row; the last record of a key is the row"


def topic_of(table: Aggregate | Latest, emit: Changes) -> ChangesTopic:
    """The topic of a table's changes. Nothing of ours reads it, so no column has to be an event time."""
    source = table.source
    return ChangesTopic(
        name=emit.topic,
        schema="",
        key=", ".join(table.by),
        event_time=EventTime("", "us"),
        partitions=emit.partitions or source.partitions,
        description=f"Rows of table {table.name}, whenever they change.",
        owners=tuple(table.owners or source.owners),
        of=table,
    )
