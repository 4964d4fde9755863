"""Which records a table takes for the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Dedup:
    """Records with an id that the table has had within the horizon are counted `duplicate` and not applied.

    columns: one column, or several that are the id together; the topic's key is one of them, so that records of one id
    are in one partition. horizon: an id is remembered until the watermark of its partition is so far beyond the event
    time of the record that brought it.
    """

    columns: str | Sequence[str]
    horizon: str

    @property
    def ids(self) -> tuple[str, ...]:
        """The columns of the id."""
        return (self.columns,) if isinstance(self.columns, str) else tuple(self.columns)
