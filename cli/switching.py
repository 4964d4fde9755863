"""Switching a pipeline: by its toggle in Dagster or by an override in the ledger, then waiting until workers follow."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from cli import dagster_services
from headrace.clock import SYSTEM_CLOCK, Clock
from headrace.deadline import Deadline
from headrace.errors import HeadraceError, ServiceUnavailable, UsageError
from headrace.settings import Settings
from ledger import Connection, fleet, workers
from orchestration import toggles
from orchestration.client import Webserver
from orchestration.names import FLEET, worker_sensor
from stream_workers import slot

_POLL = 0.2
_LOOK_SECONDS = 1.0  # between two looks at a toggle that was flipped
_FLIPS = 5  # of a toggle that goes back each time: somebody else wants it otherwise
_SILENT_SECONDS = 15.0  # a worker of another machine that says nothing for so long is held for gone


@dataclass(frozen=True)
class Switched:
    """What was done. where: address of the webserver. until: of an override. ended: override that held until then."""

    pipeline: str
    on: bool
    by: str
    where: str | None = None
    until: datetime | None = None
    ended: datetime | None = None


def reachable(settings: Settings) -> Webserver | None:
    """The Dagster webserver that the settings name or that runs on this machine, None when none answers."""
    address = settings.dagster_url or dagster_services.url()
    if not address:
        return None
    webserver = Webserver(address)
    try:
        webserver.query("query { version }")
    except ServiceUnavailable:
        return None
    return webserver


def by_toggle(db: Connection, webserver: Webserver, pipeline: str, on: bool) -> Switched:
    """Flip the toggle of the pipeline's sensor and end an override, which would hide it."""
    name = worker_sensor(pipeline)
    toggle = toggles.find(webserver, name)
    if toggle is None:
        raise UsageError(
            f"Dagster at {webserver.url} has no sensor {name}; nothing was switched; reload its code location, or run"
            f" `headrace worker {_verb(on)} {pipeline} --override`"
        )
    toggles.flip(webserver, toggle, on)
    switch = workers.switch(db, pipeline)
    ended = switch.override_until if switch else None
    if ended:
        workers.override(db, pipeline, None)
    return Switched(pipeline, on, "toggle", where=webserver.url, ended=ended)


def by_override(db: Connection, pipeline: str, on: bool, seconds: float) -> Switched:
    """Write an override that holds for `seconds`."""
    workers.declare(db, [pipeline])
    until = workers.override(db, pipeline, on, seconds)
    return Switched(pipeline, on, "override", until=until)


def living(db: Connection, pipeline: str) -> dict[str, str]:
    """State of every worker that lives: by its heartbeat, or by its process on this machine."""
    found: dict[str, str] = dict(workers.living(db, pipeline, _SILENT_SECONDS))
    for process in workers.unfinished(db, socket.gethostname()):
        if process.pipeline == pipeline:
            if slot.process(process.pid, process.process_start):
                found[process.worker] = process.state
            else:
                found.pop(process.worker, None)
    return found


def wait(
    db: Connection,
    switched: Switched,
    seconds: float,
    say: Callable[[str], None],
    webserver: Webserver | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> dict[str, str]:
    """Wait until the workers are up or gone; the living ones. `HeadraceError` with the reason when time is over."""
    deadline, last = Deadline.after(seconds, clock), ""
    look, flips = Deadline.after(_LOOK_SECONDS, clock), 0
    while True:
        found, switch = living(db, switched.pipeline), workers.switch(db, switched.pipeline)
        obeyed = switch is not None and switch.on == switched.on
        done = obeyed and ("running" in found.values() if switched.on else not found)
        if webserver and flips < _FLIPS and (done or look.passed() or deadline.passed()):
            if _went_back(webserver, switched):
                say(f"{switched.pipeline}: the toggle had gone back, as a tick under way wrote over it; flipped again")
                done, flips = False, flips + 1
            look = Deadline.after(_LOOK_SECONDS, clock)
        if done:
            return found
        text = _progress(switched, found, obeyed)
        if text != last:
            say(text)
            last = text
        if deadline.passed():
            raise HeadraceError(_late(db, switched, found, obeyed, seconds, webserver))
        clock.wait(min(_POLL, deadline.remaining()))


def _went_back(webserver: Webserver, switched: Switched) -> bool:
    """Whether the toggle was not as it was left, and is now."""
    with suppress(HeadraceError):  # a webserver that is away by now; what the ledger says decides
        return toggles.keep(webserver, worker_sensor(switched.pipeline), switched.on)
    return False


def _progress(switched: Switched, found: dict[str, str], obeyed: bool) -> str:
    if not obeyed:
        return f"{switched.pipeline}: waiting for the fleet sensor to pass the toggle on"
    names = ", ".join(f"{name} {state}" for name, state in found.items()) or "no worker yet"
    return f"{switched.pipeline}: waiting for workers to be {'up' if switched.on else 'gone'} ({names})"


def _late(
    db: Connection,
    switched: Switched,
    found: dict[str, str],
    obeyed: bool,
    seconds: float,
    webserver: Webserver | None,
) -> str:
    """Why nothing happened, and what to type."""
    pipeline, to = switched.pipeline, "on" if switched.on else "off"
    begin = f"{pipeline} is switched {to}, but after {seconds:g} s"
    if not obeyed:
        return (
            f"{begin} the ledger does not know: {_fleet(db, webserver)};"
            f" `headrace worker {_verb(switched.on)} {pipeline} --override` switches without Dagster"
        )
    names = ", ".join(f"{name} ({state})" for name, state in found.items())
    if not workers.supervisors(db):
        return (
            f"{begin} {_still(switched.on, names)}: no supervisor runs that would obey; run `headrace supervisor run`"
        )
    error = workers.last_error(db, pipeline) if switched.on else None
    return f"{begin} {_still(switched.on, names)}{f': {error}' if error else ''}; it goes on: `headrace status`"


def _still(on: bool, names: str) -> str:
    if on:
        return f"no worker runs yet{f', only {names}' if names else ''}"
    return f"there is still {names}"


def _fleet(db: Connection, webserver: Webserver | None) -> str:
    owner = fleet.owner(db)
    sensor = toggles.find(webserver, FLEET) if webserver else None
    word = toggles.last_word(webserver, sensor) if webserver and sensor else None
    said = f'; the fleet sensor here says "{word}"' if word else ""
    if owner is None:
        return f"no fleet sensor has ticked yet; is the Dagster daemon up?{said}"
    return (
        f"the fleet of instance {owner.instance} last ticked at {owner.ticked_at:%H:%M:%S}Z{said};"
        " is the Dagster daemon up? `headrace fleet release` gives the switches to the instance that ticks next"
    )


def _verb(on: bool) -> str:
    return "start" if on else "stop"
