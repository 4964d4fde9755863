"""Tables of aggregates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from headrace.errors import DeclarationError
from topology.changes import Changes
from topology.dedup import Dedup
from topology.final import Final, FinalTopic, topic_of
from topology.lookup import Lookup
from topology.topic import Topic
from topology.window import Window


@dataclass(frozen=True)
class Aggregate:
    """A table with one row per group key (and window), made true by a stream worker.

    by: group columns. measures: SQL text by column name; each one mergeable aggregate (see `topology.expression`) over
    a row expression. where: SQL condition; records for which it is not TRUE are counted `filtered`. allowed_lateness
    decides when a row is final. late: `correct` applies records of final rows as any others, `drop` does not (closed
    books): they are counted `late`. dedup: leave out records whose id the table has had. lookups: columns of other
    tables, as of the record's time, for `by`, `where` and `measures`. approx: allow sums of doubles, whose result
    depends on the order of the records. derived: SQL text by column name, each over the table's other columns (see
    `topology.derived_column`). fresh_within: how long ago the table may last have been true before it counts as stale.
    max_lag: how long a record may wait to be consumed before that is a warning. emit: rows as records of a topic, once
    they are final or whenever they change.
    """

    name: str
    source: Topic
    by: Sequence[str]
    measures: Mapping[str, str]
    where: str | None = None
    window: Window | None = None
    allowed_lateness: str = "0 seconds"
    late: Literal["correct", "drop"] = "correct"
    dedup: Dedup | None = None
    lookups: Sequence[Lookup] = ()
    emit: Final | Changes | None = None
    approx: bool = False
    derived: Mapping[str, str] = field(default_factory=dict)
    fresh_within: str = "15 minutes"
    max_lag: str = "1 minute"
    description: str = ""
    owners: tuple[str, ...] = field(default=())

    @cached_property
    def final(self) -> FinalTopic:
        """The topic of its final rows; raises `DeclarationError` when it emits none."""
        if not isinstance(self.emit, Final):
            raise DeclarationError(
                f'{self.name} emits no final rows; declare a topic for them in the table, as in emit=Final(topic="...")'
            )
        if not isinstance(self.source, Topic):  # before the catalog looks at it
            raise DeclarationError(f"{self.name}.source is no topic; declare a Derived of the final rows, which is one")
        return topic_of(self, self.emit)
