"""A table that looks up in another is downstream of it, and says which columns come from there."""

from __future__ import annotations

from dagster import AssetKey, TableColumnLineage

from assets import catalog
from orchestration.definitions import build


def test_a_table_is_made_from_its_topic_and_the_tables_it_looks_up_in() -> None:
    found = catalog.load("tests.catalogs_lookup")
    customers, orders = AssetKey(["postgres", "customers"]), AssetKey(["kafka", "orders-under-test"])
    node = build(found).resolve_asset_graph().get(AssetKey(["postgres", "per_tier"]))
    assert node.parent_keys == {customers, orders}
    lineage = node.metadata["dagster/column_lineage"]
    lineage = getattr(lineage, "value", lineage)
    assert isinstance(lineage, TableColumnLineage)
    made = {name: [(d.asset_key, d.column_name) for d in deps] for name, deps in lineage.deps_by_column.items()}
    assert made["tier"] == [(customers, "tier")]
    assert sorted(made["discounts"], key=str) == [(orders, "quantity"), (customers, "discount")]
    assert made["windowStart"] == [(orders, "orderTimestamp")]
    assert made["orders"] == []
