"""When a process that failed is started again: later and later, and at once after it has lived for a while."""

from __future__ import annotations

from dataclasses import dataclass

_FIRST, _LONGEST, _HEALTHY = 0.5, 30.0, 60.0


@dataclass
class Backoff:
    """Pauses of 0.5, 1, 2, ... at most 30 s. All times are monotonic seconds."""

    failures: int = 0
    _next: float = 0.0
    _started: float = 0.0

    @classmethod
    def going_on(cls, failures: int, now: float, pause: float) -> Backoff:
        """Where another supervisor left off: so many failures, and so many seconds of the pause to go."""
        return cls(failures, now + pause, now)

    def due(self, now: float) -> bool:
        """Whether the pause is over."""
        return now >= self._next

    def started(self, now: float) -> None:
        """The process was started."""
        self._started = now

    def lived(self, now: float) -> bool:
        """The process lives; after a minute its failures are forgotten. Whether that was now."""
        if not self.failures or now - self._started <= _HEALTHY:
            return False
        self.failures = 0
        return True

    def failed(self, now: float) -> float:
        """The process ended by itself; returns the pause in seconds."""
        pause = min(_LONGEST, _FIRST * 2.0 ** min(self.failures, 10))
        self.failures += 1
        self._next = now + pause
        return pause
