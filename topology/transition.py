"""What happens to the rows of a `Latest`, record by record: the source of alerts on its transitions."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from topology.topic import EventTime, Topic

if TYPE_CHECKING:
    from schemas.avro import AvroSchema
    from topology.latest import Latest

BEFORE = "previous_"
SINCE = "valid_from"


@dataclass(frozen=True)
class TransitionTopic(Topic):
    """No topic of Kafka's: the newer rows of table `of`, each beside the one before it (engine rule C6).

    Columns: those of the table, `valid_from`, and for each that is no key `previous_COLUMN`.
    """

    of: Latest = field(kw_only=True, repr=False)

    @property
    def table(self) -> str:
        """Name of the table."""
        return self.of.name

    @property
    def depth(self) -> int:
        """As far away as the table, whose worker makes the alerts."""
        return 1 + self.of.source.depth

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The key columns of the table."""
        return tuple(self.of.by)

    @cached_property
    def shape(self) -> AvroSchema:
        """The columns that an alert can name; raises `DeclarationError`."""
        from topology.compile import compile_alone
        from topology.transition_compile import shape_of

        return shape_of(self, compile_alone(self.of, place=self.shape_name), self.shape_name)

    @property
    def shape_name(self) -> str:
        """What errors call the schema."""
        return f"the transitions of {self.table}"


def topic_of(table: Latest) -> TransitionTopic:
    """The transitions of a table."""
    source = table.source
    return TransitionTopic(
        name=table.name,
        schema="",
        key=", ".join(table.by),
        event_time=EventTime(SINCE, "us"),
        partitions=source.partitions,
        pipeline=source.pipeline_name,
        max_ahead=source.max_ahead,
        not_before=source.not_before,
        owners=tuple(table.owners or source.owners),
        of=table,
    )
