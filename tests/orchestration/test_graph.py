"""A snapshot of the whole asset graph, so that lineage cannot change silently.

After a change that is meant: `HEADRACE_SNAPSHOT=write make test ARGS="tests/orchestration/test_graph.py"`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from dagster import AssetKey, AssetSpec

from orchestration.definitions import defs

SNAPSHOT = Path(__file__).with_name("graph.json")


def described() -> dict[str, Any]:
    return {
        "/".join(spec.key.path): _spec(spec)
        for spec in sorted(defs.resolve_all_asset_specs(), key=lambda spec: list(spec.key.path))
    }


def _spec(spec: AssetSpec) -> dict[str, Any]:
    columns = spec.metadata.get("dagster/column_schema")
    lineage = spec.metadata.get("dagster/column_lineage")
    return {
        "deps": sorted("/".join(dep.asset_key.path) for dep in spec.deps),
        "group": spec.group_name,
        "kinds": sorted(spec.kinds),
        "owners": list(spec.owners),
        "description": spec.description,
        "columns": {column.name: column.type for column in _value(columns).columns} if columns else {},
        "lineage": {
            name: [f"{'/'.join(dep.asset_key.path)}.{dep.column_name}" for dep in deps]
            for name, deps in _value(lineage).deps_by_column.items()
        }
        if lineage
        else {},
    }


def _value(metadata: Any) -> Any:
    return getattr(metadata, "value", metadata)


def test_the_graph_is_the_snapshot() -> None:
    if os.environ.get("HEADRACE_SNAPSHOT") == "write":
        SNAPSHOT.write_text(json.dumps(described(), indent=2) + "\n")
    assert described() == json.loads(SNAPSHOT.read_text())


def test_every_asset_says_what_it_is_and_whose() -> None:
    for name, spec in described().items():
        assert spec["description"] and spec["owners"] and spec["kinds"] and spec["group"], name


def test_the_job_ingests_topics_and_nothing_external() -> None:
    job = defs.resolve_job_def("ingest")
    assert job.asset_layer.selected_asset_keys == {AssetKey(["kafka", "order-created-events"])}


def test_a_table_leads_to_its_switch_and_says_what_its_columns_are() -> None:
    graph = defs.resolve_asset_graph()
    selection = defs.resolve_sensor_def("orders_worker").asset_selection
    assert selection is not None
    tables = {AssetKey(["postgres", "customer_order_totals"]), AssetKey(["postgres", "product_sales"])}
    assert selection.resolve(graph) == tables
    for spec in defs.resolve_all_asset_specs():
        if spec.key in tables:
            described = _value(spec.metadata["dagster/column_schema"]).columns
            assert all(column.description for column in described), spec.key
