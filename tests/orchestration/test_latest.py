"""Tables of newest rows in the graph: unpartitioned assets with the checks of every table."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from dagster import AssetCheckKey, AssetKey

from assets import catalog
from orchestration.definitions import build

DECLARED = """from topology import EventTime, Expect, Latest, NotNull, Topic, Unique

orders = Topic(
    "orders", schema="orders/order_created.avsc", key="customerId", event_time=EventTime("orderTimestamp", "iso8601")
)
newest = Latest("newest", orders, by=["customerId"], columns=["status"])
versions = Latest("versions", orders, by=["customerId"], columns=["status"], history=True)
expected = Expect(newest, critical={"once": Unique("customerId"), "known": NotNull("status")})
"""


def test_it_is_an_unpartitioned_asset_with_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "declared_latest").mkdir()
    (tmp_path / "declared_latest" / "__init__.py").write_text(DECLARED)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        graph = build(catalog.load("declared_latest")).resolve_asset_graph()
    finally:
        sys.modules.pop("declared_latest", None)
    for name in ("newest", "versions"):
        node = graph.get(AssetKey(["postgres", name]))
        assert node.partitions_def is None and node.parent_keys == {AssetKey(["kafka", "orders"])}
        checks = {"accounting", "recount", "lag", "volume", "freshness"}
        assert {AssetCheckKey(node.key, check) for check in checks} <= set(graph.asset_check_keys)
    assert AssetCheckKey(AssetKey(["postgres", "newest"]), "once") in graph.asset_check_keys
    schema = graph.get(AssetKey(["postgres", "versions"])).metadata["dagster/column_schema"]
    assert [column.name for column in schema.columns] == ["customerId", "status", "valid_from", "valid_to"]
