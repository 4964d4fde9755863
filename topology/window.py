"""Windows over event time, and over the records of a key."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from headrace.errors import DeclarationError
from topology.duration import micros

DAY = 86_400_000_000


@dataclass(frozen=True)
class Tumbling:
    """Windows of one size that do not overlap, aligned to 1970-01-01T00:00:00Z.

    zone: an IANA name. Windows then follow the clocks of that zone: a day is from one midnight to the next, 23 or 25
    hours where the clocks change.
    """

    size: str
    zone: str | None = None

    def __post_init__(self) -> None:
        _refuse_empty(self.size, self.micros)
        if self.zone is not None and self.micros % DAY and DAY % self.micros:
            raise DeclarationError(
                f'windows of "{self.size}" do not fit the days of {self.zone}; use whole days or a part of a day, such '
                'as "1 day" or "6 hours"'
            )

    def __str__(self) -> str:
        return f"{self.size} in {self.zone}" if self.zone else self.size

    @cached_property
    def micros(self) -> int:
        """Size in microseconds; with a zone what it is while the clocks do not change."""
        return micros(self.size)

    @property
    def pane_micros(self) -> int:
        """Size of what is stored as one row."""
        return self.micros

    def last_start(self, pane: int) -> int:
        """Start of the last window that holds the pane which starts here."""
        return pane


@dataclass(frozen=True)
class Hopping:
    """Windows of `size` that begin every `every` and overlap, aligned to 1970-01-01T00:00:00Z."""

    size: str
    every: str
    zone: None = None

    def __post_init__(self) -> None:
        _refuse_empty(self.size, self.micros)
        if self.every_micros <= 0:
            raise DeclarationError(f'windows cannot begin every "{self.every}"; give it a time, such as "1 minute"')
        if self.every_micros > self.micros:
            raise DeclarationError(
                f'windows of "{self.size}" every "{self.every}" would leave out the records in between; use an every '
                f'of at most "{self.size}"'
            )
        if self.every_micros == self.micros:
            raise DeclarationError(f'windows of "{self.size}" every "{self.every}" do not overlap; use Tumbling')
        if self.micros // self.pane_micros > _MOST_PANES:
            raise DeclarationError(
                f'windows of "{self.size}" every "{self.every}" are put together from {self.micros // self.pane_micros}'
                f" rows each, {_MOST_PANES} at most; use an every that fits the size"
            )

    def __str__(self) -> str:
        return f"{self.size} every {self.every}"

    @cached_property
    def micros(self) -> int:
        """Size in microseconds."""
        return micros(self.size)

    @cached_property
    def every_micros(self) -> int:
        """From one window's start to the next's, in microseconds."""
        return micros(self.every)

    @property
    def pane_micros(self) -> int:
        """Size of a pane: what is stored as one row, of which each window is made up."""
        return math.gcd(self.micros, self.every_micros)

    def last_start(self, pane: int) -> int:
        """Start of the last window that holds the pane which starts here."""
        return pane // self.every_micros * self.every_micros


@dataclass(frozen=True)
class Session:
    """Windows of one key's activity: they last until nothing has happened for `gap`.

    A session begins with its first record and ends `gap` after its last one, at which moment another would begin. Only
    for tables whose group key contains the topic's key: all records of a session are then in one partition.
    """

    gap: str
    zone: None = None

    def __post_init__(self) -> None:
        if self.micros <= 0:
            raise DeclarationError(f'a gap of "{self.gap}" ends no session; give it a time, such as "30 minutes"')

    def __str__(self) -> str:
        return f"sessions, gap {self.gap}"

    @cached_property
    def micros(self) -> int:
        """The gap in microseconds: how long a session of one record lasts."""
        return micros(self.gap)

    def last_start(self, start: int) -> int:
        """Start of the session that is stored with this one."""
        return start


@dataclass(frozen=True)
class Count:
    """Windows of so many consecutive records of one key, by offset: the first `records` of them, the next, and so on.

    Only for tables whose group key contains the topic's key: the order of its records is then that of its partition.
    """

    records: int

    def __post_init__(self) -> None:
        if isinstance(self.records, bool) or not isinstance(self.records, int) or self.records < 1:
            raise DeclarationError(
                f"a window of {self.records!r} records is none; give it a number, such as Count(100)"
            )

    def __str__(self) -> str:
        return f"{self.records} records"


TimeWindow = Tumbling | Hopping | Session
Window = TimeWindow | Count

_MOST_PANES = 10_000  # of one window; the view reads so many rows for each


def _refuse_empty(size: str, length: int) -> None:
    if length <= 0:
        raise DeclarationError(f'a window of "{size}" is empty; give it a size, such as "15 minutes"')
