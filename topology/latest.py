"""Tables of the newest row of each key, and of all its versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from headrace.errors import DeclarationError
from topology.changes import Changes
from topology.topic import Topic
from topology.transition import TransitionTopic, topic_of

if TYPE_CHECKING:
    from topology.lookup import Lookup


@dataclass(frozen=True)
class Latest:
    """A table with the newest row of each key, by event time, then partition, then offset.

    by: key columns. columns: SQL text over the record by column name, or names of the record's fields. where: SQL
    condition; records for which it is not TRUE are counted `filtered` and are no versions. history: keep every version,
    with `valid_from` and `valid_to`. Where `by` is the topic's key, a record without value deletes the row of its
    record key, at the watermark that its partition had before it; elsewhere it is a dead letter. lookups: columns of
    other tables as of the record's time, for `by`, `columns` and `where`. emit: rows as records of a topic,
    whenever they change.
    """

    name: str
    source: Topic
    by: Sequence[str]
    columns: Mapping[str, str] | Sequence[str]
    where: str | None = None
    history: bool = False
    lookups: Sequence[Lookup] = ()
    emit: Changes | None = None
    fresh_within: str = "15 minutes"
    max_lag: str = "1 minute"
    description: str = ""
    owners: tuple[str, ...] = field(default=())

    @cached_property
    def transitions(self) -> TransitionTopic:
        """What happens to its rows, the source of alerts; raises `DeclarationError` before its source is a topic."""
        if not isinstance(self.source, Topic):
            raise DeclarationError(f"{self.name}.source is no topic; alerts are on transitions of a table over a topic")
        return topic_of(self)

    # -- as other tables have them

    @property
    def measures(self) -> Mapping[str, str]:
        """The text of each column."""
        if isinstance(self.columns, Mapping):
            return self.columns
        return {name: f'"{name}"' for name in self.columns}

    @property
    def window(self) -> None:
        """It has no windows."""
        return
