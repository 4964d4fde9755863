"""Topics of final rows in the graph, and the check that says what their rows wait for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from dagster import AssetCheckKey, AssetKey, MetadataValue

from assets import catalog as declared
from ledger.closings import Finals
from orchestration import judge
from orchestration.definitions import build
from tests.orchestration.test_judge import LEVEL

NAME = "orders-under-test"
SALES = AssetKey(["kafka", f"{NAME}-product-sales"])
TABLE = AssetKey(["postgres", "product_sales"])
HOUR = 3_600_000_000
FINE = Finals("orders", "product_sales", 10 * HOUR, 120, 118, None, [], 0, 11 * HOUR, 11 * HOUR, False)


@pytest.fixture(scope="module")
def catalog() -> declared.Catalog:
    return declared.load("tests.catalogs_final")


def test_a_topic_of_final_rows_is_an_asset_made_from_its_table(catalog: declared.Catalog) -> None:
    graph = build(catalog).resolve_asset_graph()
    node = graph.get(SALES)
    assert node.parent_keys == {TABLE} and node.group_name == "emitted_topics" and not node.is_materializable
    lineage = node.metadata["dagster/column_lineage"]
    assert isinstance(lineage, MetadataValue)
    assert [d.column_name for d in lineage.value.deps_by_column["salesAmount"]] == ["salesAmount"]
    assert AssetCheckKey(TABLE, "final") in graph.asset_check_keys
    assert AssetCheckKey(SALES, "schema_drift") in graph.asset_check_keys


def test_changes_and_alerts_on_transitions_are_assets_made_from_their_table() -> None:
    graph = build(declared.load("tests.catalogs_changes")).resolve_asset_graph()
    for topic, table in (("visits", "visits"), ("customers", "customers"), ("failures", "large")):
        node = graph.get(AssetKey(["kafka", f"{NAME}-{topic}"]))
        assert node.parent_keys == {AssetKey(["postgres", table])} and not node.is_materializable
        assert node.group_name == "emitted_topics"
        assert AssetCheckKey(node.key, "schema_drift") in graph.asset_check_keys
    lineage = graph.get(AssetKey(["kafka", f"{NAME}-failures"])).metadata["dagster/column_lineage"]
    assert isinstance(lineage, MetadataValue)
    assert [d.column_name for d in lineage.value.deps_by_column["before"]] == ["orderId"]


def test_it_is_provisioned_with_its_partitions(catalog: declared.Catalog) -> None:
    assert {t.name: t.partitions for t in catalog.provisioned} == {
        NAME: 4,
        f"{NAME}-product-sales": 3,
        f"{NAME}-status-counts": 4,
    }


@pytest.mark.parametrize(
    ("found", "passed", "says"),
    [
        (FINE, True, "120 records emitted, rows are final up to 1970-01-01 10:00:00Z"),
        (replace(FINE, watermark=None, furthest=None, ended=False), True, "120 records emitted"),
        (replace(FINE, silent=[3]), False, "Final waits for partition 3: no event time has come from there"),
        (replace(FINE, furthest=13 * HOUR), False, "Final waits for partition 0, which has come to 1970-01-01 11:00"),
        (replace(FINE, furthest=13 * HOUR, ended=True), True, "emitted"),
        (replace(FINE, furthest=13 * HOUR, slowest=1), True, "emitted"),  # it has records to read
        (replace(FINE, outbox_seq=20_000), False, "19,882 records wait for Kafka"),
        (replace(FINE, silent=[3], by_offset=True), True, "120 records emitted, each when it was full"),
        (replace(FINE, error="the topic is gone"), False, "final rows stand still: the topic is gone"),
        (None, False, "no worker has closed a row of this table yet"),
    ],
)
def test_what_final_rows_wait_for(catalog: declared.Catalog, found: Finals | None, passed: bool, says: str) -> None:
    places = [LEVEL, replace(LEVEL, partition=1, end_offset=215)]
    verdict = judge.final(catalog.tables["product_sales"], places, found)
    assert (verdict.passed, verdict.check) == (passed, "final")
    assert says in verdict.says
