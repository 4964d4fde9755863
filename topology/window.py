"""Windows over event time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from headrace.errors import DeclarationError
from topology.duration import micros


@dataclass(frozen=True)
class Tumbling:
    """Windows of one size that do not overlap, aligned to 1970-01-01T00:00:00Z."""

    size: str

    def __post_init__(self) -> None:
        if self.micros <= 0:
            raise DeclarationError(f'a window of "{self.size}" is empty; give it a size, such as "15 minutes"')

    @cached_property
    def micros(self) -> int:
        """Size in microseconds."""
        return micros(self.size)
