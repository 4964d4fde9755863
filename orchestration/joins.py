"""Joins in the graph: external assets downstream of their tables, for Postgres computes them when asked."""

from __future__ import annotations

from dagster import AssetSpec, MetadataValue

from orchestration import code, columns, keys
from topology.join import Join
from topology.program import JoinProgram


def spec(program: JoinProgram, declared: code.Place) -> AssetSpec:
    """The asset of one join."""
    join, first = program.join, program.join.tables[0]
    lineage = {
        column: [(keys.table_key(table), origin) for table, origin in origins]
        for column, origins in program.lineage.items()
    }
    described = {column: f"{origin} of {table}" for column, ((table, origin),) in program.lineage.items()}
    return AssetSpec(
        keys.table_key(join.name),
        deps=[keys.table_key(table.name) for table in join.tables],
        description=join.description or f"Join {join.name} of {' and '.join(table.name for table in join.tables)}.",
        group_name=keys.VIEWS,
        kinds={"postgres", "view"},
        owners=list(join.owners or first.owners or first.source.owners),
        metadata={
            "dagster/column_schema": columns.table_columns(
                ((c.name, c.pg_type.partition(" COLLATE")[0]) for c in program.columns), described
            ),
            **columns.lineage_of_several(lineage),
            **code.references(declared),
            "how": MetadataValue.text(_how(join)),
        },
    )


def _how(join: Join) -> str:
    before = f"{_how(join.left)}; then " if isinstance(join.left, Join) else f"each row of {join.left.name} "
    within = join.within if isinstance(join.within, str) else " to ".join(join.within)
    alone = ", or alone once none can come" if join.kind == "left" else ""
    return f"{before}with each of {join.right.name} within {within}{alone}"
