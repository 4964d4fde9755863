"""Toggles of sensors through the webserver's GraphQL, the way the UI flips them. Imports no dagster."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.errors import HeadraceError, ServiceFailed
from orchestration.client import Webserver

_SENSORS = """query { workspaceOrError { __typename ... on PythonError { message } ... on Workspace { locationEntries {
  name loadStatus locationOrLoadError { __typename
    ... on RepositoryLocation { repositories { name sensors { id name sensorState { status } } } }
    ... on PythonError { message } } } } } }"""
_START = """mutation($selector: SensorSelector!) { startSensor(sensorSelector: $selector) { __typename
  ... on SensorNotFoundError { message } ... on UnauthorizedError { message } ... on PythonError { message } } }"""
_STOP = """mutation($id: String!) { stopSensor(id: $id) { __typename
  ... on UnauthorizedError { message } ... on PythonError { message } } }"""
_LAST_TICK = """query($selector: SensorSelector!) { sensorOrError(sensorSelector: $selector) { __typename
  ... on Sensor { sensorState { ticks(limit: 2) { status skipReason error { message } } } } } }"""


@dataclass(frozen=True)
class Toggle:
    """A sensor of a loaded code location."""

    location: str
    repository: str
    name: str
    id: str
    on: bool

    @property
    def selector(self) -> dict[str, str]:
        """How GraphQL names the sensor."""
        return {
            "repositoryLocationName": self.location,
            "repositoryName": self.repository,
            "sensorName": self.name,
        }


def find(webserver: Webserver, name: str) -> Toggle | None:
    """The sensor of that name, None when no loaded code location has it.

    Raises `ServiceFailed` when definitions cannot load or load still, `HeadraceError` when two locations have it.
    """
    workspace = webserver.query(_SENSORS)["workspaceOrError"]
    found, trouble = [], ""
    for entry in workspace.get("locationEntries", []):
        loaded = entry["locationOrLoadError"]
        if loaded is None or entry["loadStatus"] != "LOADED":
            trouble = trouble or f"Dagster at {webserver.url} still loads the definitions; try again"
            continue
        if loaded["__typename"] == "PythonError":
            cause = " ".join(loaded["message"].split())
            trouble = f"Dagster cannot load the definitions: {cause}; run `headrace validate`"
            continue
        found += [
            Toggle(entry["name"], repository["name"], name, sensor["id"], sensor["sensorState"]["status"] == "RUNNING")
            for repository in loaded["repositories"]
            for sensor in repository["sensors"] or []
            if sensor["name"] == name
        ]
    if len(found) > 1:
        places = ", ".join(toggle.location for toggle in found)
        raise HeadraceError(
            f"Dagster at {webserver.url} has the sensor {name} in several code locations ({places});"
            " nothing was switched; flip the right one in its UI"
        )
    if not found and trouble:
        raise ServiceFailed(trouble)
    return found[0] if found else None


def flip(webserver: Webserver, toggle: Toggle, on: bool) -> None:
    """Switch the sensor on or off; raises `HeadraceError` when the webserver refuses."""
    if on:
        answer = webserver.query(_START, selector=toggle.selector)["startSensor"]
    else:
        answer = webserver.query(_STOP, id=toggle.id)["stopSensor"]
    if answer["__typename"] not in ("Sensor", "StopSensorMutationResult"):
        raise HeadraceError(
            f"Dagster did not flip {toggle.name} ({answer['__typename']}): {' '.join(answer['message'].split())}"
        )


def keep(webserver: Webserver, name: str, on: bool) -> bool:
    """Flip a sensor that is there and not as wanted; whether it had to be flipped.

    Dagster's daemon reads a sensor's state and writes it back, toggle and all, when a tick begins and when it ends: a
    flip in between is lost. So whoever flips has to look again (dagster 1.13.27, `mark_sensor_state_for_tick`).
    """
    toggle = find(webserver, name)
    if toggle is None or toggle.on == on:
        return False
    flip(webserver, toggle, on)
    return True


def last_word(webserver: Webserver, toggle: Toggle) -> str | None:
    """Why the sensor's last finished tick did nothing or failed, None when it worked or there was none."""
    sensor = webserver.query(_LAST_TICK, selector=toggle.selector)["sensorOrError"]
    ticks = sensor["sensorState"]["ticks"] if sensor["__typename"] == "Sensor" else []
    ticks = [tick for tick in ticks if tick["status"] != "STARTED"]  # one that is under way has said nothing yet
    if not ticks:
        return None
    reason = (ticks[0]["error"] or {}).get("message") or ticks[0]["skipReason"]
    return " ".join(reason.split()) if reason else None
