"""What is expected of a table's rows, whatever its records said: the vocabulary of data quality.

Expectations look at the finished table. What must hold for a single record belongs to its topic's `require`, which
keeps the record out; an expectation keeps nothing out, it turns a check red and shows the rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from topology.aggregate import Aggregate
from topology.latest import Latest

Bound = int | float | date  # a datetime is a date too
Value = str | int | float | bool


@dataclass(frozen=True)
class NotNull:
    """The column has a value in every row."""

    column: str


@dataclass(frozen=True)
class Between:
    """The column lies between two bounds, both included; a null is left to `NotNull`.

    Numbers for number columns, dates or datetimes for times; a bound that is None is not there.
    """

    column: str
    minimum: Bound | None = None
    maximum: Bound | None = None


@dataclass(frozen=True, init=False)
class Unique:
    """No two rows agree in all of the columns; a row with a null in one of them agrees with none.

    Over the table's own key it looks at the rows as they are stored, because the view would add up two of them.
    """

    columns: tuple[str, ...]

    def __init__(self, *columns: str) -> None:
        object.__setattr__(self, "columns", columns)


@dataclass(frozen=True)
class InSet:
    """The column is one of the values; a null is left to `NotNull`."""

    column: str
    values: Sequence[Value]


@dataclass(frozen=True)
class Holds:
    """A relation of a row's columns, as an SQL condition for Postgres: a row for which it is not TRUE fails."""

    condition: str


Expectation = NotNull | Between | Unique | InSet | Holds


@dataclass(frozen=True)
class Expect:
    """Expectations of one table, by the name of the check that each becomes.

    critical: a failure is an error and blocks what is downstream in Dagster. warning: a failure warns.
    """

    table: Aggregate | Latest
    critical: Mapping[str, Expectation] = field(default_factory=dict)
    warning: Mapping[str, Expectation] = field(default_factory=dict)
