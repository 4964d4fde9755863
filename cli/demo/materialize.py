"""Ingest by a Dagster run, launched through the webserver as the UI does: run and log are seen there."""

from __future__ import annotations

from dataclasses import dataclass

from cli.demo.landing import Manifest
from cli.demo.stages import Stage
from headrace.errors import HeadraceError
from headrace.settings import Settings
from ledger import connection
from orchestration.client import Location, Webserver
from topology import Topic

_MATERIALIZATION = """query($key: AssetKeyInput!) { assetOrError(assetKey: $key) { __typename ... on Asset {
  assetMaterializations(limit: 1) { runId metadataEntries { label
    ... on IntMetadataEntry { intValue } ... on FloatMetadataEntry { floatValue } } } } } }"""


@dataclass(frozen=True)
class Ingested:
    """What the run's materialization says: records produced now, files skipped, records per second of ingest."""

    produced: int
    skipped: int
    rate: float


def ingest(
    webserver: Webserver, location: Location, topic: Topic, manifest: Manifest, settings: Settings, stage: Stage
) -> Ingested:
    """Materialize the topic's asset and wait for the end of the run; raises `HeadraceError` when it fails."""
    path = ["kafka", topic.name]
    stage.say("launching a Dagster run")
    run = webserver.materialize([path], location)
    stage.say(f"run {run[:8]} is on its way")
    with connection.connect(settings.need_postgres()) as database:
        for lines in webserver.follow(run):
            notes = [line.message for line in lines if line.kind is None and line.message]
            row = database.execute("select coalesce(sum(position), 0) from ledger.files where topic = %s", [topic.name])
            done = row.fetchone()
            stage.advance(min(int(done[0]) if done else 0, manifest.rows), manifest.rows, notes[-1] if notes else "")
    return _outcome(webserver, path, run)


def _outcome(webserver: Webserver, path: list[str], run: str) -> Ingested:
    found = webserver.query(_MATERIALIZATION, key={"path": path})["assetOrError"].get("assetMaterializations") or []
    if not found or found[0]["runId"] != run:
        raise HeadraceError(
            f"run {run} succeeded without materializing {'/'.join(path)}; see {webserver.url}/runs/{run}"
        )
    values = {e["label"]: e.get("intValue", e.get("floatValue")) for e in found[0]["metadataEntries"]}
    return Ingested(int(values["produced"]), int(values["files skipped"]), float(values["records per second"]))
