"""One time budget shared by several blocking calls."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.clock import SYSTEM_CLOCK, Clock


@dataclass(frozen=True)
class Deadline:
    """A moment (monotonic seconds) after which waiting is over."""

    at: float
    clock: Clock = SYSTEM_CLOCK

    @classmethod
    def after(cls, seconds: float, clock: Clock = SYSTEM_CLOCK) -> Deadline:
        """The deadline `seconds` from now."""
        return cls(clock.monotonic() + seconds, clock)

    def remaining(self) -> float:
        """Seconds left, never below zero."""
        return max(0.0, self.at - self.clock.monotonic())

    def passed(self) -> bool:
        """Whether the budget is used up."""
        return self.remaining() == 0.0
