"""Final rows of a windowed table as records of a topic."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from topology.emitted import EmittedTopic
from topology.topic import EventTime
from topology.window import Session

if TYPE_CHECKING:
    from topology.aggregate import Aggregate

# The end of a window that a marker closed lies ahead of the clock by up to the window's size. Rows come of records that
# were judged by their own topic's `max_ahead`: none is refused for that again.
_ANY_TIME_AHEAD = "36500 days"

WITHDRAWN = "withdrawn"  # the field that says of a session's row that there is none any more


@dataclass(frozen=True)
class Final:
    """Emit each row of the table to `topic` once it is final, and again with the next revision when it changes.

    partitions: of the topic, by default those of the table's source. retention: how long Kafka keeps its records
    (`None`: without limit). dead_letters: name of the topic for final rows that a `Derived` or `Alert` cannot take.
    idle_after: a partition that has been read to its end for so long holds no row back (`None`: each does, always).
    """

    topic: str
    partitions: int = 0
    retention: str | None = None
    dead_letters: str | None = None
    idle_after: str | None = None


@dataclass(frozen=True)
class FinalTopic(EmittedTopic):
    """The topic of the final rows of `of`."""

    of: Aggregate = field(kw_only=True, repr=False)

    @property
    def idles(self) -> bool:
        """Whether rows become final without partitions that are idle."""
        return isinstance(self.of.emit, Final) and self.of.emit.idle_after is not None

    @property
    def withdraws(self) -> bool:
        """Whether a row that was final may be gone later: late records merge sessions."""
        return isinstance(self.of.window, Session)

    @property
    def shape_name(self) -> str:
        """What errors call the schema."""
        return f"the final rows of {self.table}"

    @property
    def emitted_when(self) -> str:
        """When a row is sent, for people."""
        return "a row is final, and again with the next revision when it changes"


def topic_of(table: Aggregate, emit: Final) -> FinalTopic:
    """The topic of a table's final rows. An event is a window, and happens at its end.

    A window of records ends with the last of their event times.
    """
    source = table.source
    return FinalTopic(
        name=emit.topic,
        schema="",
        key=", ".join(table.by),
        event_time=EventTime("windowEnd", "us"),
        partitions=emit.partitions or source.partitions,
        dead_letters=emit.dead_letters,
        max_ahead=_ANY_TIME_AHEAD,
        not_before=source.not_before,
        retention=emit.retention,
        description=f"Final rows of table {table.name}.",
        owners=tuple(table.owners or source.owners),
        of=table,
    )
