"""What `up` tells while it works, and two ways to show it: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """One step of one part: `state` is downloading, starting, ready or failed; `done` of `total` bytes when known."""

    part: str
    state: str
    detail: str = ""
    done: int = 0
    total: int = 0


Progress = Callable[[Event], None]


def silent(_event: Event) -> None:
    """Show nothing."""


@contextmanager
def console() -> Iterator[Progress]:
    """A callback that shows events on standard error as long as the context lasts."""
    if sys.stderr.isatty():
        with _bars() as callback:
            yield callback
    else:
        yield _lines()


def _lines() -> Progress:
    shown: set[tuple[str, str]] = set()

    def show(event: Event) -> None:
        if (event.part, event.state) in shown:
            return
        shown.add((event.part, event.state))
        size = f" {event.total / 1e6:.0f} MB," if event.state == "downloading" else ""
        print(f"{event.part}: {event.state}{size} {event.detail}".rstrip(" ,"), file=sys.stderr, flush=True)

    return show


@contextmanager
def _bars() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

    tasks: dict[str, TaskID] = {}
    columns = (
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description:<20}"),
        BarColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:

        def show(event: Event) -> None:
            if event.part not in tasks:
                tasks[event.part] = bars.add_task(event.part, total=None, note="")
            task = tasks[event.part]
            note = f"{event.state} {event.detail}".strip()
            if event.state == "downloading":
                note = f"{event.done / 1e6:.0f} of {event.total / 1e6:.0f} MB"
                bars.update(task, total=event.total, completed=event.done, note=note)
            elif event.state == "ready":
                bars.update(task, total=1, completed=1, note=note)
            else:
                bars.update(task, total=None, note=note)

        yield show
