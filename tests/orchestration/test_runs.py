"""A topic materialized through the webserver, as a click in the UI does it."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.errors import HeadraceError
from headrace.settings import load
from ingestion import generate
from orchestration.recount import recount
from tests.orchestration.conftest import Dagster

TOPIC = ["kafka", "order-created-events"]
SEED = 4711  # content of its own: other tests may use the same topic with another ledger
LATEST = """
query($key: AssetKeyInput!) { assetOrError(assetKey: $key) { ... on Asset { assetMaterializations(limit: 1) {
  runId metadataEntries { label ... on IntMetadataEntry { intValue } ... on FloatMetadataEntry { floatValue }
    ... on JsonMetadataEntry { jsonString } ... on MarkdownMetadataEntry { mdStr } } } } } }"""


def materialize(dagster: Dagster) -> tuple[dict[str, Any], list[str]]:
    run = dagster.webserver.materialize([TOPIC], dagster.location)
    lines = [line.message for lines in dagster.webserver.follow(run) for line in lines if line.kind is None]
    latest = dagster.webserver.query(LATEST, key={"path": TOPIC})["assetOrError"]["assetMaterializations"][0]
    assert latest["runId"] == run
    return {
        entry["label"]: next(v for k, v in entry.items() if k != "label") for entry in latest["metadataEntries"]
    }, lines


def landed(dagster: Dagster, source: str) -> tuple[int, int]:
    """(new files, rows) of the newest report of a source's files; no files when there is none."""
    asset = dagster.webserver.query(LATEST, key={"path": ["files", source]})["assetOrError"]
    for event in asset.get("assetMaterializations", []):
        values = {entry["label"]: entry.get("intValue") for entry in event["metadataEntries"]}
        return values["new files"], values["rows"]
    return 0, 0


def test_materializing_a_topic_ingests_its_files_once(dagster: Dagster) -> None:
    made = generate.generate(dagster.landing, events=1_200, bad=0.05, seed=SEED, days=1)

    first, lines = materialize(dagster)
    assert first["produced"] == made.rows - made.rejected_lines
    assert (first["files"], first["files skipped"], first["rows"]) == (2, 0, made.rows)
    assert first["rejected lines"] == made.rejected_lines
    assert "wrong_type" in first["rejected by reason"]
    assert "orders/2026-01-01.csv" in first["per file"]
    files = {source: landed(dagster, source) for source in ("orders_csv", "orders_json")}
    assert [new for new, _ in files.values()] == [1, 1] and sum(rows for _, rows in files.values()) == made.rows
    assert any("provisioned order-created-events" in line for line in lines)
    before = recount(load().kafka(), TOPIC[1])

    second, lines = materialize(dagster)
    assert (second["produced"], second["files skipped"], second["rows"]) == (0, 2, made.rows)
    assert any("skipped" in line for line in lines)
    assert recount(load().kafka(), TOPIC[1]).partitions == before.partitions
    (dagster.landing / "orders" / "more.csv").write_text(_two_rows(dagster))
    third, _ = materialize(dagster)
    assert third["files skipped"] == 2 and landed(dagster, "orders_csv") == (1, 2)
    assert landed(dagster, "orders_json") == files["orders_json"]  # nothing new: no report


def _two_rows(dagster: Dagster) -> str:
    lines = (dagster.landing / "orders" / "2026-01-01.csv").read_text().splitlines()
    return "\n".join([lines[0], *lines[1:3]]) + "\n"


def test_a_file_that_cannot_be_ingested_fails_the_run_with_its_one_line(dagster: Dagster) -> None:
    broken = dagster.landing / "orders" / "zz.csv"
    broken.parent.mkdir(parents=True, exist_ok=True)
    broken.write_text("orderId,customerId\no1,c1\n")
    try:
        run = dagster.webserver.materialize([TOPIC], dagster.location)
        with pytest.raises(HeadraceError, match=r"orders/zz\.csv"):
            for _ in dagster.webserver.follow(run):
                pass
    finally:
        broken.unlink()
