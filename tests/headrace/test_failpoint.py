"""Failpoints fire where, when and as often as the setting says."""

from __future__ import annotations

import os
import signal
from enum import Enum

import pytest

from headrace.errors import SettingsError
from headrace.failpoint import FailpointError, Failpoints


class Step(Enum):
    FIRST = "first"
    SECOND = "second"


def test_fires_once_at_the_visit_named() -> None:
    points = Failpoints("first:raise:2")
    points.hit(Step.FIRST)
    points.hit(Step.SECOND)
    with pytest.raises(FailpointError, match="first, visit 2"):
        points.hit(Step.FIRST)
    points.hit(Step.FIRST)


def test_own_actions_and_several_points() -> None:
    seen: list[str] = []
    points = Failpoints(" first:note, second:note:1 ,first:note:3")
    points.on("note", lambda: seen.append("x"))
    for step in (Step.FIRST, Step.SECOND, Step.FIRST, Step.FIRST):
        points.hit(step)
    assert len(seen) == 3


def test_kill_is_a_sigkill() -> None:
    child = os.fork()
    if child == 0:
        Failpoints("first:kill").hit(Step.FIRST)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize("text", ["first", "first:", ":kill", "first:kill:0", "first:kill:x"])
def test_text_that_is_not_a_failpoint(text: str) -> None:
    with pytest.raises(SettingsError, match="name:action"):
        Failpoints(text)


def test_unknown_action() -> None:
    with pytest.raises(SettingsError, match="unknown action"):
        Failpoints("first:explode").hit(Step.FIRST)
