"""Lookups: columns of another table, as they were at the time of a record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from topology.latest import Latest


@dataclass(frozen=True)
class Lookup:
    """Columns of the version that `table` had of a key at a record's event time, beside the record's own.

    table: a `Latest(..., history=True)` by one column, of another pipeline. on: the record's column with the key.
    columns: names of the table's columns, or the name that each gets -> column of the table. missing: what becomes of
    a record whose key had no version at its time: its columns are null, or it is a dead letter `not_found:TABLE`.
    """

    table: Latest
    on: str
    columns: Mapping[str, str] | Sequence[str]
    missing: Literal["null", "dead_letter"] = "null"

    @property
    def named(self) -> Mapping[str, str]:
        """The table's column by the name it gets."""
        return self.columns if isinstance(self.columns, Mapping) else {name: name for name in self.columns}
