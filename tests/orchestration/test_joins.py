"""Joins in the graph: external assets downstream of both tables, with columns and lineage."""

from __future__ import annotations

from dagster import AssetKey, TableColumnLineage, TableSchema

from assets import catalog
from orchestration.definitions import build


def test_a_join_is_an_asset_made_from_both_tables() -> None:
    found = catalog.load("tests.catalogs_joined")
    orders, payments = (AssetKey(["postgres", name]) for name in ("order_rows", "payment_rows"))
    node = build(found).resolve_asset_graph().get(AssetKey(["postgres", "paid_orders"]))
    assert node.parent_keys == {orders, payments} and node.group_name == "views" and not node.is_executable
    assert node.owners == ["team:orders"] and node.kinds == {"postgres", "view"}
    assert node.description == "What was paid."
    columns = node.metadata["dagster/column_schema"]
    columns = getattr(columns, "value", columns)
    assert isinstance(columns, TableSchema) and all(column.description for column in columns.columns)
    names = ["customerId", "orderId", "paymentId", "order_rows_time", "payment_rows_time", "matched"]
    assert [column.name for column in columns.columns] == names
    lineage = node.metadata["dagster/column_lineage"]
    lineage = getattr(lineage, "value", lineage)
    assert isinstance(lineage, TableColumnLineage)
    made = {name: [(d.asset_key, d.column_name) for d in deps] for name, deps in lineage.deps_by_column.items()}
    assert made["paymentId"] == [(payments, "paymentId")]
    assert made["matched"] == [(orders, "customerId"), (payments, "customerId")]


def test_a_chain_is_made_from_the_join_and_the_third_table() -> None:
    found = catalog.load("tests.catalogs_joined")
    paid, shipments = (AssetKey(["postgres", name]) for name in ("paid_orders", "shipment_rows"))
    node = build(found).resolve_asset_graph().get(AssetKey(["postgres", "sent_orders"]))
    assert node.parent_keys == {paid, shipments}
    columns = node.metadata["dagster/column_schema"]
    columns = getattr(columns, "value", columns)
    assert isinstance(columns, TableSchema) and all(column.description for column in columns.columns)
    lineage = node.metadata["dagster/column_lineage"]
    lineage = getattr(lineage, "value", lineage)
    assert isinstance(lineage, TableColumnLineage)
    made = {name: [(d.asset_key, d.column_name) for d in deps] for name, deps in lineage.deps_by_column.items()}
    assert made["paymentId"] == [(paid, "paymentId")] and made["shipmentId"] == [(shipments, "shipmentId")]
