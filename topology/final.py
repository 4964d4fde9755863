"""Final rows of a windowed table as records of a topic."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from topology.topic import EventTime, Topic
from topology.window import Session

if TYPE_CHECKING:
    from schemas.avro import AvroSchema
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
class FinalTopic(Topic):
    """The topic of the final rows of `of`, which its worker alone writes."""

    of: Aggregate = field(kw_only=True, repr=False)

    @property
    def table(self) -> str:
        """Name of the table."""
        return self.of.name

    @property
    def depth(self) -> int:
        """One step after the source of its table."""
        return 1 + self.of.source.depth

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The group columns, whose texts are the record key together."""
        return tuple(self.of.by)

    @property
    def idles(self) -> bool:
        """Whether rows become final without partitions that are idle."""
        return isinstance(self.of.emit, Final) and self.of.emit.idle_after is not None

    @property
    def withdraws(self) -> bool:
        """Whether a row that was final may be gone later: late records merge sessions."""
        return isinstance(self.of.window, Session)

    @cached_property
    def shape(self) -> AvroSchema:
        """The schema of its records: the table's columns, and the revision; raises `DeclarationError`."""
        from topology.compile import compile_alone

        compile_alone(self.of, place=self.shape_name)
        return self.shape  # now known

    def known(self, shape: AvroSchema) -> FinalTopic:
        """The same topic, which need not ask what the compiled table has just said."""
        self.__dict__["shape"] = shape  # where the property keeps it
        return self

    @property
    def shape_name(self) -> str:
        """What errors call the schema."""
        return f"the final rows of {self.table}"


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
