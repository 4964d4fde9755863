"""Derived topics in the graph: assets with lineage, checks, the switch of their workers, and what the fleet reports."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from dagster import AssetCheckKey, AssetKey, AssetMaterialization, MetadataValue

from assets import catalog as declared
from ledger import connect
from ledger.observed import observe
from orchestration import judge
from orchestration.cursor import Cursor
from orchestration.definitions import build
from orchestration.tick import Tick
from tests.conftest import Services
from tests.stream_workers.derive.rig import DerivedRig

NAME = "orders-under-test"


@pytest.fixture(scope="module")
def catalog() -> declared.Catalog:
    return declared.load("tests.catalogs_derived")


def test_a_derived_topic_is_an_asset_made_from_its_source(catalog: declared.Catalog) -> None:
    graph = build(catalog).resolve_asset_graph()
    node = graph.get(AssetKey(["kafka", f"{NAME}-by-product"]))
    assert node.parent_keys == {AssetKey(["kafka", NAME])} and node.group_name == "derived_topics"
    assert graph.get(AssetKey(["kafka", f"{NAME}-bulk"])).parent_keys == {node.key}
    assert graph.get(AssetKey(["postgres", "product_totals"])).parent_keys == {node.key}
    lineage = node.metadata["dagster/column_lineage"]
    assert isinstance(lineage, MetadataValue)
    assert [d.column_name for d in lineage.value.deps_by_column["cents"]] == ["orderAmount"]


def test_its_workers_have_a_switch_and_it_has_checks(catalog: declared.Catalog) -> None:
    definitions = build(catalog)
    sensors = {sensor.name for sensor in definitions.sensors or ()}
    assert {"orders_derived_worker", "by_product_derived_worker", "by_product_worker"} <= sensors
    keys = set(definitions.resolve_asset_graph().asset_check_keys)
    for suffix in ("by-product", "large", "bulk"):
        key = AssetKey(["kafka", f"{NAME}-{suffix}"])
        assert {AssetCheckKey(key, name) for name in ("accounting", "lag", "freshness", "volume", "makers")} <= keys
    assert AssetCheckKey(AssetKey(["kafka", f"{NAME}-by-product"]), "workers") in keys  # of those who read it


def test_nobody_else_ingests_into_it(catalog: declared.Catalog) -> None:
    selected = build(catalog).resolve_job_def("ingest").asset_layer.selected_asset_keys
    assert selected == {AssetKey(["kafka", NAME])}


def test_the_fleet_reports_it(
    stack: Services,
    database: str,
    topic_name: str,
    tmp_path: Path,
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
    catalog: declared.Catalog,
) -> None:
    rig = DerivedRig(stack, database, NAME, tmp_path, partitions=4)
    try:
        rig.command("provision")
        rig.produce(seed, 500, ["negative"])
        rig.derive()
        rig.wait(rig.made)
        rig.wait(lambda: bool(rig.query("select 1 from ledger.ends where pipeline = 'orders-derived'")))
        with connect(database) as db:
            program = catalog.pipelines["orders-derived"]
            seen = observe(db, datetime.now(UTC), [t.name for t in program.tables], since={}, volumes=True)
        tick = Tick({"orders-derived": catalog.pipelines["orders-derived"]}, seen, Cursor(), datetime.now(UTC))
        tick.run()
        told = {event.asset_key for event in tick.events if isinstance(event, AssetMaterialization)}
        assert told == {AssetKey(["kafka", f"{NAME}-{suffix}"]) for suffix in ("by-product", "large", "alerts")}
        by_product = next(t for t in catalog.pipelines["orders-derived"].tables if t.name == f"{NAME}-by-product")
        accounting = judge.accounting(by_product, seen.table(by_product.name))
        assert accounting.passed and accounting.asset == AssetKey(["kafka", by_product.name])
        assert accounting.numbers["consumed"] == 501 and accounting.numbers["dead_lettered"]
    finally:
        rig.close()
