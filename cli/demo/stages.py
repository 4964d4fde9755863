"""Stages of the demo: a bar each on a terminal, plain lines elsewhere; how long each took is kept for the report."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from stack import Event

_LINE_EVERY = 5.0  # seconds between two plain lines of one stage


class Stage:
    """One stage while it runs."""

    def __init__(self, stages: Stages, name: str) -> None:
        self._stages = stages
        self.name = name

    def say(self, note: str) -> None:
        """Tell what is going on."""
        self._stages.update(self.name, note)

    def advance(self, done: float, total: float, note: str = "") -> None:
        """`done` of `total` is reached."""
        self._stages.update(self.name, note, done, total)


class Stages:
    """All stages; they may run side by side in threads."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.began = time.monotonic()
        self._lock = threading.Lock()
        self._bars: Progress | None = _bars() if sys.stderr.isatty() else None
        self._tasks: dict[str, TaskID] = {}
        self._said: dict[str, tuple[float, str]] = {}

    def __enter__(self) -> Stages:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars:
            self._bars.stop()

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """A stage from here to the end of the block."""
        began = time.monotonic()
        self.update(name, "", force=True)
        try:
            yield Stage(self, name)
        except BaseException:
            self.update(name, "failed", force=True)
            raise
        self.seconds[name] = round(time.monotonic() - began, 2)
        self.update(name, f"done in {self.seconds[name]:.1f} s", 1, 1, force=True)

    def service(self, event: Event) -> None:
        """Show an event of the local services."""
        if event.state == "downloading" and event.total:
            note = f"downloading {event.done / 1e6:.0f} of {event.total / 1e6:.0f} MB {event.detail}".rstrip()
            self.update(event.part, note, event.done, event.total)
        else:
            done = {"ready": (1.0, 1.0)}.get(event.state, (0.0, 0.0))
            self.update(event.part, f"{event.state} {event.detail}".strip(), *done, force=True)

    def update(self, name: str, note: str, done: float = 0, total: float = 0, *, force: bool = False) -> None:
        """Move the bar of `name`, or print a line when the last one is old enough (`force`: in any case)."""
        with self._lock:
            if self._bars:
                if name not in self._tasks:
                    self._tasks[name] = self._bars.add_task(name, total=None, note="")
                self._bars.update(self._tasks[name], note=note, completed=done, total=total or None)
                return
            now = time.monotonic()
            last, said = self._said.get(name, (0.0, ""))
            if note and note != said and (force or now - last > _LINE_EVERY):
                self._said[name] = (now, note)
                share = f" {done / total:.0%}" if total and done < total else ""
                print(f"[{now - self.began:5.1f} s] {name}:{share} {note}", file=sys.stderr, flush=True)


def _bars() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    return Progress(
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description:<20}"),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
    )
