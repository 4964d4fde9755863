"""Ports are preferred, moved on when taken, and remembered."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

import stack as services
from headrace.errors import ServiceFailed
from stack import ports

NewHome = Callable[..., services.Home]


@pytest.fixture(autouse=True)
def own_range(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(ports.PREFERRED, "kafka", 24092)


def test_a_taken_port_moves_on_and_is_remembered(new_home: NewHome) -> None:
    home = new_home()
    with socket.socket() as other:
        other.bind((ports.HOST, 24092))
        other.listen()
        assert not ports.free(24092)
        assert ports.answers(24092)
        assert ports.choose(home, "kafka") == 24102
    assert ports.free(24092)
    assert ports.choose(home, "kafka") == 24102 == ports.remembered(home, "kafka")


def test_a_port_that_somebody_took_meanwhile_is_given_up(new_home: NewHome) -> None:
    home = new_home()
    assert ports.choose(home, "kafka") == 24092
    with socket.socket() as other:
        other.bind((ports.HOST, 24092))
        other.listen()
        assert ports.choose(home, "kafka") == 24102


def test_two_homes_that_are_both_down_do_not_share(new_home: NewHome) -> None:
    first, second = new_home(), new_home()
    assert ports.choose(first, "kafka") == 24092
    assert ports.choose(second, "kafka") == 24102
    assert ports.choose(first, "kafka") == 24092


def test_a_home_that_was_removed_gives_its_ports_back(new_home: NewHome) -> None:
    gone = new_home()
    assert ports.choose(gone, "kafka") == 24092
    (gone.root / "ports.json").unlink()
    gone.root.rmdir()
    assert ports.choose(new_home(), "kafka") == 24092


def test_no_port_left(new_home: NewHome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "free", lambda _port: False)
    with pytest.raises(ServiceFailed, match="no free port for kafka"):
        ports.choose(new_home(), "kafka")
