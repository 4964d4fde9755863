"""Follow-on views: what Postgres reads out of a table's rows, with no state and no worker of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from topology.aggregate import Aggregate


@dataclass(frozen=True)
class Rolling:
    """The rows of a table with windows, each with columns over the last windows of its key.

    windows: how many. columns: by name one of `avg(m)`, `trend(m)`, `anomaly(m)`, where m is a number column of the
    table. avg and trend (least-squares slope per window) look at the last n windows, the row's own included; anomaly is
    the z-score of the row's window against the n before it. empty: whether windows without records, or whose m is null,
    are left out (`skip`) or count as 0 from the key's first window on (`zero`).
    """

    name: str
    table: Aggregate
    windows: int
    columns: Mapping[str, str]
    empty: Literal["skip", "zero"] = "skip"
    description: str = ""
    owners: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class TopK:
    """The k rows of a table with the largest value of a column, numbered by the column `rank` from 1.

    Of each window where the table has windows, and of each value of the group columns `within`. Equal values: the
    smaller key first; rows whose value is null have no rank. smallest: the smallest values instead.
    """

    name: str
    table: Aggregate
    k: int
    by: str
    within: Sequence[str] = ()
    smallest: bool = False
    description: str = ""
    owners: tuple[str, ...] = field(default=())


View = Rolling | TopK
