"""Archives in the graph: assets with lineage, checks, and the switch of their workers."""

from __future__ import annotations

import pytest
from dagster import AssetCheckKey, AssetKey, MetadataValue

from assets import catalog as declared
from orchestration.definitions import build

LAKE = AssetKey(["lake", "orders_lake"])


@pytest.fixture(scope="module")
def catalog() -> declared.Catalog:
    return declared.load("tests.catalogs_archived")


def test_an_archive_is_an_asset_made_from_its_topic(catalog: declared.Catalog) -> None:
    node = build(catalog).resolve_asset_graph().get(LAKE)
    assert node.parent_keys == {AssetKey(["kafka", "orders-under-test"])} and node.group_name == "lakes"
    lineage = node.metadata["dagster/column_lineage"]
    assert isinstance(lineage, MetadataValue)
    assert [d.column_name for d in lineage.value.deps_by_column["orderAmount"]] == ["orderAmount"]


def test_its_workers_have_a_switch_and_it_has_checks(catalog: declared.Catalog) -> None:
    definitions = build(catalog)
    assert {"orders_archive_worker", "orders_worker"} <= {sensor.name for sensor in definitions.sensors or ()}
    keys = set(definitions.resolve_asset_graph().asset_check_keys)
    assert {AssetCheckKey(LAKE, n) for n in ("accounting", "lag", "freshness", "volume", "makers")} <= keys
    assert AssetCheckKey(LAKE, "recount") not in keys
