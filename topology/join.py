"""Joins of tables within a time bound: rows of several logs side by side, with no state of their own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from topology.latest import Latest


@dataclass(frozen=True)
class Join:
    """Every row of `left` beside each row of `right` with the same key, within a bound of event time.

    left, right: histories (`Latest` with `history=True`) by the key of their topics, which have equally many
    partitions; left may be a join itself. within: how far the right row's event time may lie from that of the left row
    (of its first table), both ends included: `"30 minutes"` before or after, or a pair such as
    `("-5 minutes", "30 minutes")`. kind: `inner`, or `left` for left rows without match too, once the right topic's
    watermark in their partition has reached their time + the bound's end + allowed_lateness.
    """

    name: str
    left: Latest | Join
    right: Latest
    within: str | tuple[str, str]
    kind: Literal["inner", "left"] = "inner"
    allowed_lateness: str = "0 seconds"
    description: str = ""
    owners: tuple[str, ...] = field(default=())

    @property
    def tables(self) -> tuple[Latest, ...]:
        """The tables side by side, the first one first."""
        before = self.left.tables if isinstance(self.left, Join) else (self.left,)
        return (*before, self.right)
