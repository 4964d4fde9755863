"""Failpoints: named places where a test makes the process die, stop or fail.

A room lists its points in one enum: tests parametrize over all of them, so that a new step is tested by construction.
Nothing happens unless the setting `failpoints` (`name:action[:nth],...`) names the point; `nth` counts from 1 and says
at which visit the action fires (default 1). Each fires once.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from headrace.errors import SettingsError

Action = Callable[[], None]


class FailpointError(Exception):
    """Raised by a failpoint with the action `raise`."""


@dataclass
class _Armed:
    action: str
    nth: int
    visits: int = 0


class Failpoints:
    """The armed failpoints of a process, parsed from text such as `after_commit:kill:3,before_mirror:raise`.

    Actions: `kill` (SIGKILL to itself), `stop` (SIGSTOP to itself), `raise` (`FailpointError`), and those registered
    with `on`. A point may be armed more than once. Raises `SettingsError` when the text cannot be parsed.
    """

    def __init__(self, text: str = "") -> None:
        self._armed: dict[str, list[_Armed]] = {}
        self._actions: dict[str, Action] = {"kill": _kill, "stop": _stop}
        for part in filter(None, (piece.strip() for piece in text.split(","))):
            name, _, rest = part.partition(":")
            action, _, nth = rest.partition(":")
            if not name or not action or not (nth or "1").isdecimal() or int(nth or 1) < 1:
                raise SettingsError(
                    f'HEADRACE_FAILPOINTS: "{part}" is not name:action[:nth], such as after_commit:kill:2'
                )
            self._armed.setdefault(name, []).append(_Armed(action, int(nth or 1)))

    def on(self, action: str, call: Action) -> None:
        """Let `action` mean `call`."""
        self._actions[action] = call

    def hit(self, point: Enum) -> None:
        """Visit `point` (its value is the name); does what is armed there, else nothing."""
        if not self._armed:
            return
        for armed in self._armed.get(point.value, ()):
            armed.visits += 1
            if armed.visits == armed.nth:
                self._fire(point, armed)

    def _fire(self, point: Enum, armed: _Armed) -> None:
        if armed.action == "raise":
            raise FailpointError(f"{point.value}, visit {armed.nth}")
        action = self._actions.get(armed.action)
        if action is None:
            raise SettingsError(
                f'HEADRACE_FAILPOINTS: unknown action "{armed.action}"; known: raise, {", ".join(self._actions)}'
            )
        action()


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)
