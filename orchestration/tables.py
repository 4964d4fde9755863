"""Tables in the graph: made true by stream workers, so external assets in a group of their own.

The UI refuses to materialize a selection with an external asset in it; a group of its own keeps "Materialize all"
usable for the topics.
"""

from __future__ import annotations

from dagster import AssetSpec, MetadataValue

from orchestration import columns, keys
from topology.program import TableProgram


def spec(program: TableProgram) -> AssetSpec:
    """The asset of one table."""
    table = program.table
    topic = keys.topic_key(table.source.name)
    return AssetSpec(
        keys.table_key(table.name),
        deps=[topic],
        description=table.description or f"Table {table.name}.",
        group_name=keys.TABLES,
        kinds={"postgres", "table"},
        owners=list(table.owners or table.source.owners),
        metadata={
            "dagster/column_schema": columns.table_columns(
                ((c.name, c.pg_type.partition(" COLLATE")[0]) for c in program.columns), table.measures
            ),
            **columns.lineage(topic, program.lineage),
            "pipeline": MetadataValue.text(table.source.pipeline_name),
            "group by": MetadataValue.text(", ".join(table.by)),
            "window": MetadataValue.text(table.window.size if table.window else "none"),
            "only where": MetadataValue.text(table.where or "every valid record"),
        },
    )
