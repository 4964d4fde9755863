"""Joins of tables within a time bound: the rows of two logs side by side, with no state of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from topology.latest import Latest


@dataclass(frozen=True)
class Join:
    """Each row of `left` beside every row of `right` with the same key, within a bound of event time.

    left, right: `Latest` tables by the key of their topics, which have equally many partitions; with `history=True`
    every version is a row, else the newest. on: the left table's key column and the right one's. within: the least and
    the largest difference of event times, right - left, both included, as in `("-5 minutes", "30 minutes")`. kind:
    `inner`, or `left` for left rows without match too, once the right topic's watermark in their partition has reached
    their time + the bound's end + lateness. lateness: how much later than in order a match may come before a row is
    shown without one.

    left may be a join itself, by the same key. A row of it happens at the later one of its two event times, or at its
    left row's where it has no match, and lies in the partition of its left row.
    """

    name: str
    left: Latest | Join
    right: Latest
    on: Mapping[str, str]
    within: tuple[str, str]
    kind: Literal["inner", "left"] = "inner"
    lateness: str = "0 seconds"
    description: str = ""
    owners: tuple[str, ...] = field(default=())

    @property
    def kinds(self) -> tuple[str, ...]:
        """Its kind, after those of the joins on its left side."""
        return (*(self.left.kinds if isinstance(self.left, Join) else ()), self.kind)

    @property
    def tables(self) -> tuple[Latest, ...]:
        """The tables side by side, the left ones first."""
        return (*(self.left.tables if isinstance(self.left, Join) else (self.left,)), self.right)
