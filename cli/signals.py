"""Signals of commands that stay up."""

from __future__ import annotations

import signal
from types import FrameType


def interruptible() -> None:
    """Let SIGTERM end a command in the order that Ctrl-C does."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
