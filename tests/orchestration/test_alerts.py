"""Alerts on final rows in the graph: downstream of the topic of final rows, with a switch and checks of their own."""

from __future__ import annotations

import pytest
from dagster import AssetCheckKey, AssetKey, MetadataValue

from assets import catalog as declared
from orchestration.definitions import build

NAME = "orders-under-test"
SALES = AssetKey(["kafka", f"{NAME}-product-sales"])
BIG = AssetKey(["kafka", f"{NAME}-big-sales"])


@pytest.fixture(scope="module")
def catalog() -> declared.Catalog:
    return declared.load("tests.catalogs_alerts")


def test_from_orders_to_alerts_is_one_line(catalog: declared.Catalog) -> None:
    graph = build(catalog).resolve_asset_graph()
    node = graph.get(BIG)
    assert node.parent_keys == {SALES} and node.group_name == "derived_topics"
    assert graph.get(SALES).parent_keys == {AssetKey(["postgres", "product_sales"])}
    assert graph.get(AssetKey(["postgres", "newest_quarters"])).parent_keys == {AssetKey(["kafka", f"{NAME}-quarters"])}
    lineage = node.metadata["dagster/column_lineage"]
    assert isinstance(lineage, MetadataValue)
    deps = {name: [(d.asset_key, d.column_name) for d in found] for name, found in lineage.value.deps_by_column.items()}
    assert deps["salesAmount"] == [(SALES, "salesAmount")] and deps["revision"] == [(SALES, "revision")]


def test_its_workers_have_a_switch_and_it_has_checks(catalog: declared.Catalog) -> None:
    definitions = build(catalog)
    sensors = {sensor.name for sensor in definitions.sensors or ()}
    assert sensors >= {"orders_under_test_product_sales_derived_worker", "orders_worker", "quarters_worker"}
    keys = set(definitions.resolve_asset_graph().asset_check_keys)
    wanted = ("accounting", "lag", "freshness", "volume", "makers", "schema_drift")
    assert {AssetCheckKey(BIG, name) for name in wanted} <= keys
    assert {check.name for check in keys if check.asset_key == SALES} == {"schema_drift"}


def test_what_is_made_is_provisioned_after_what_it_is_made_of(catalog: declared.Catalog) -> None:
    names = [topic.name for topic in catalog.provisioned]
    assert names[:2] == [NAME, f"{NAME}-product-sales"]
    assert set(names[2:]) == {f"{NAME}-{suffix}" for suffix in ("big-sales", "first-results", "quarters")}
