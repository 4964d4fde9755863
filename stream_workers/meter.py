"""How fast a worker is: records since its start, and records per second over the last seconds."""

from __future__ import annotations

from collections import deque

_SPAN = 5.0


class Meter:
    """Counts records; `add` in the loop, the rest may be read by another thread."""

    def __init__(self) -> None:
        self.records = 0
        self._recent: deque[tuple[float, int]] = deque()

    def add(self, records: int, now: float) -> None:
        """`records` were committed at the monotonic time `now`."""
        self.records += records
        self._recent.append((now, records))
        while self._recent and self._recent[0][0] < now - _SPAN:
            self._recent.popleft()

    def rate(self, now: float) -> float:
        """Records per second over the last five seconds."""
        recent = [entry for entry in list(self._recent) if entry[0] >= now - _SPAN]
        return sum(count for _, count in recent) / _SPAN
