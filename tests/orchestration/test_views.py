"""Follow-on views in the graph: external assets downstream of their table, with columns and lineage."""

from __future__ import annotations

from dagster import AssetKey, TableColumnLineage, TableSchema

from assets import catalog
from orchestration.definitions import build


def test_a_view_is_an_asset_made_from_its_table() -> None:
    found = catalog.load("tests.catalogs_views")
    graph = build(found).resolve_asset_graph()
    table = AssetKey(["postgres", "product_sales"])
    lately = graph.get(AssetKey(["postgres", "product_sales_lately"]))
    best = graph.get(AssetKey(["postgres", "best_products"]))
    for node in (lately, best):
        assert node.parent_keys == {table} and node.group_name == "views" and not node.is_executable
        assert node.owners == ["team:orders"] and node.kinds == {"postgres", "view"}
        columns = node.metadata["dagster/column_schema"]
        columns = getattr(columns, "value", columns)
        assert isinstance(columns, TableSchema) and all(column.description for column in columns.columns)
    lineage = lately.metadata["dagster/column_lineage"]
    lineage = getattr(lineage, "value", lineage)
    assert isinstance(lineage, TableColumnLineage)
    assert [(d.asset_key, d.column_name) for d in lineage.deps_by_column["trend"]] == [(table, "salesAmount")]
    assert best.description == "What sells."
