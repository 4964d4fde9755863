"""Topics made of other topics, or of final rows: validated, enriched, routed, re-keyed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from topology.origin import Origin
from topology.topic import EventTime, Topic
from topology.transition import TransitionTopic

if TYPE_CHECKING:
    from schemas.avro import AvroSchema

_AS_SOURCE = EventTime("", "iso8601")


@dataclass(frozen=True, kw_only=True)
class Derived(Topic):
    """A topic made record by record from another; itself the source of tables and of further derived topics.

    source: a topic, or a table that emits its final rows, each revision of which is a record then. columns: SQL text
    over the source's record by field; key: the field whose text is the record key. where: records for which it is not
    TRUE are counted `filtered`; several `Derived` on one source route it, in one pass. require: holds over the new
    record. schema: path of an `.avsc` file that the columns must fit; without it the schema follows from the columns.
    event_time, not_before, max_ahead, partitions: by default those of the source, whose event time column must be among
    the columns. made_by: name of the worker group that makes it, default `<source's pipeline>-derived`. The records
    that it cannot take go to the source's `dead_letters` topic.
    """

    source: Origin = Origin()  # noqa: RUF009  # a descriptor, not a default
    columns: Mapping[str, str]
    schema: str = ""
    key: str
    event_time: EventTime = _AS_SOURCE
    where: str | None = None
    partitions: int = 0
    max_ahead: str = ""
    made_by: str | None = None
    fresh_within: str = "15 minutes"
    max_lag: str = "1 minute"
    description: str = ""
    owners: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        source, set_to = self.source, object.__setattr__  # frozen for everybody but its own beginning
        if self.event_time == _AS_SOURCE:
            of = source.event_time
            set_to(self, "event_time", EventTime(self._copy_of(of.column), of.format, of.zone))
        if self.not_before is None:
            set_to(self, "not_before", source.not_before)
        set_to(self, "partitions", self.partitions or source.partitions)
        set_to(self, "max_ahead", self.max_ahead or source.max_ahead)
        set_to(self, "owners", self.owners or source.owners)

    def _copy_of(self, column: str) -> str:
        """The field that is a column of the source as it is, "" where none is."""
        same = [name for name, text in self.columns.items() if text.strip().strip('"') == column]
        return same[0] if same else ""

    def _copied_key(self) -> str:
        """The field that is the source's record key, "" where none is."""
        return self._copy_of(self.source.key)

    @property
    def on_transitions(self) -> bool:
        """Whether its source may be a table's transitions."""
        return False

    @property
    def beside(self) -> bool:
        """Whether the worker of its source's table makes it, beside the table; what cannot be computed is null then."""
        return isinstance(self.source, TransitionTopic)

    @property
    def depth(self) -> int:
        """One step after its source."""
        return 1 + self.source.depth

    @property
    def maker(self) -> str:
        """Name of the worker group that makes it."""
        if self.beside:
            return self.source.pipeline_name
        return self.made_by or f"{self.source.pipeline_name}-derived"

    @cached_property
    def shape(self) -> AvroSchema:
        """The schema of its records: the declared one, or that of its columns; raises `DeclarationError`."""
        if self.schema:
            return super().shape
        from topology.derived_schema import schema_of

        return schema_of(self)

    @property
    def shape_name(self) -> str:
        """What errors call the schema."""
        return self.schema or f"the columns of {self.name}"

    @property
    def identity(self) -> str | None:
        """The field that names the source's record by its coordinates, for topics that have one."""
        return None

    # -- as tables have them

    @property
    def by(self) -> tuple[str, ...]:
        """It groups nothing."""
        return ()

    @property
    def measures(self) -> Mapping[str, str]:
        """The text of each column."""
        return self.columns

    @property
    def window(self) -> None:
        """It has no windows."""
        return
