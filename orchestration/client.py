"""Runs through the webserver's GraphQL, the way the UI launches them. Imports no dagster.

Runs launched here are the runs the UI shows: same queue, same logs, same asset events.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import requests

from headrace.clock import SYSTEM_CLOCK, Clock
from headrace.errors import HeadraceError, ServiceFailed, ServiceUnavailable

FINISHED = {"SUCCESS", "FAILURE", "CANCELED"}

_LOCATIONS = """query { workspaceOrError { __typename ... on Workspace { locationEntries {
  name loadStatus locationOrLoadError { __typename
    ... on RepositoryLocation { repositories { name } }
    ... on PythonError { message } } } } ... on PythonError { message } } }"""
_LAUNCH = """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) { __typename
  ... on LaunchRunSuccess { run { runId } }
  ... on PythonError { message }
  ... on RunConfigValidationInvalid { errors { message } }
  ... on InvalidSubsetError { message } ... on UnauthorizedError { message }
  ... on PipelineNotFoundError { message } } }"""
_RUN = """query($id: ID!, $after: String) {
  runOrError(runId: $id) { __typename ... on Run { status startTime endTime } }
  logsForRun(runId: $id, afterCursor: $after) { __typename ... on EventConnection { cursor events {
    __typename ... on MessageEvent { message level eventType }
    ... on ExecutionStepFailureEvent { error { message causes { message } } } } } } }"""
_CHECKS = """query { assetNodes { assetKey { path } assetChecksOrError { __typename ... on AssetChecks { checks {
  name blocking executionForLatestMaterialization { status runId evaluation { severity description } } } } } } }"""
_ASSETS = """query { assetNodes { assetKey { path } groupName isExecutable dependencyKeys { path } } }"""


@dataclass(frozen=True)
class Location:
    """A code location: name and repository, as run requests name them."""

    name: str
    repository: str


@dataclass(frozen=True)
class CheckOutcome:
    """A check as the UI shows it for the asset's newest materialization; status None: it has not run since."""

    asset: tuple[str, ...]
    name: str
    blocking: bool
    status: str | None
    says: str

    @property
    def passed(self) -> bool:
        """Whether it ran and passed."""
        return self.status == "SUCCEEDED"


@dataclass(frozen=True)
class RunLine:
    """One line of a run's log."""

    level: str
    kind: str | None
    message: str


class Webserver:
    """A Dagster webserver at `url`."""

    def __init__(self, url: str, clock: Clock = SYSTEM_CLOCK) -> None:
        self.url = url.rstrip("/")
        self._clock = clock
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy of the environment is not the way to a local webserver

    def query(self, text: str, **variables: Any) -> dict[str, Any]:
        """The data of a GraphQL answer; raises `ServiceUnavailable` when nobody answers, `HeadraceError` on errors."""
        try:
            answer = self._session.post(f"{self.url}/graphql", json={"query": text, "variables": variables}, timeout=30)
            answer.raise_for_status()
            found = answer.json()
        except (requests.RequestException, ValueError) as error:
            raise ServiceUnavailable(f"the Dagster webserver at {self.url} does not answer: {error}") from error
        if found.get("errors"):
            raise HeadraceError(f"the Dagster webserver refused a query: {found['errors'][0].get('message')}")
        data: dict[str, Any] = found["data"]
        return data

    def location(self) -> Location | None:
        """The loaded code location, None while it loads; raises `ServiceFailed` with the cause when it cannot load."""
        workspace = self.query(_LOCATIONS)["workspaceOrError"]
        for entry in workspace.get("locationEntries", []):
            found = entry["locationOrLoadError"]
            if found is None:
                continue
            if found["__typename"] == "PythonError":
                raise ServiceFailed(
                    f"Dagster cannot load the definitions: {found['message'].strip()}; run `headrace validate`"
                )
            if entry["loadStatus"] == "LOADED" and found["repositories"]:
                return Location(entry["name"], found["repositories"][0]["name"])
        return None

    def assets(self) -> list[dict[str, Any]]:
        """Nodes of the asset graph."""
        nodes: list[dict[str, Any]] = self.query(_ASSETS)["assetNodes"]
        return nodes

    def checks(self) -> list[CheckOutcome]:
        """Every asset check with its last outcome."""
        found = []
        for node in self.query(_CHECKS)["assetNodes"]:
            for check in node["assetChecksOrError"].get("checks", []):
                last = check["executionForLatestMaterialization"] or {}
                says = (last.get("evaluation") or {}).get("description") or ""
                path = tuple(node["assetKey"]["path"])
                found.append(CheckOutcome(path, check["name"], bool(check["blocking"]), last.get("status"), says))
        return found

    def materialize(self, asset_keys: Sequence[Sequence[str]], location: Location) -> str:
        """Launch a run of these assets; its id."""
        return self._launch(location, [{"path": list(path)} for path in asset_keys], [])

    def check(self, checks: Sequence[CheckOutcome], location: Location) -> str:
        """Launch a run of these checks; its id."""
        wanted = [{"assetKey": {"path": list(check.asset)}, "name": check.name} for check in checks]
        return self._launch(location, [], wanted)

    def _launch(self, location: Location, assets: Sequence[object], checks: Sequence[object]) -> str:
        selector = {
            "repositoryLocationName": location.name,
            "repositoryName": location.repository,
            "pipelineName": "__ASSET_JOB",
            "assetSelection": assets,
            "assetCheckSelection": checks,
        }
        answer = self.query(_LAUNCH, params={"selector": selector, "mode": "default", "runConfigData": {}})["launchRun"]
        if answer["__typename"] != "LaunchRunSuccess":
            reasons = answer.get("message") or "; ".join(error["message"] for error in answer.get("errors", []))
            raise HeadraceError(f"Dagster did not launch the run ({answer['__typename']}): {reasons}")
        run_id: str = answer["run"]["runId"]
        return run_id

    def follow(self, run_id: str, *, every: float = 0.3) -> Iterator[list[RunLine]]:
        """New log lines of a run at each look, until it ends; raises `HeadraceError` with the cause if it failed."""
        cursor, cause = None, ""
        while True:
            found = self.query(_RUN, id=run_id, after=cursor)
            run, logs = found["runOrError"], found["logsForRun"]
            lines = []
            for event in logs.get("events", []):
                if event["__typename"] == "ExecutionStepFailureEvent":
                    error = event["error"] or {}
                    causes = error.get("causes") or []
                    cause = (causes[-1]["message"] if causes else error.get("message", "")).strip() or cause
                lines.append(RunLine(event.get("level", ""), event.get("eventType"), event.get("message", "")))
            yield lines
            cursor = logs.get("cursor") or cursor
            status = run.get("status")
            if status == "SUCCESS":
                return
            if status in FINISHED:
                raise HeadraceError(
                    f"the Dagster run {run_id} ended as {status}: {cause or f'see {self.url}/runs/{run_id}'}"
                )
            self._clock.wait(every)
