"""Joins in the graph: external assets downstream of their tables, for Postgres computes them when asked."""

from __future__ import annotations

from dagster import AssetSpec, MetadataValue

from orchestration import code, columns, keys
from topology.join import Join
from topology.program import JoinProgram


def spec(program: JoinProgram, declared: code.Place) -> AssetSpec:
    """The asset of one join."""
    join, first = program.join, program.join.tables[0]
    sides = [join.left.name, join.right.name]
    lineage = {
        column: [(keys.table_key(table), origin) for table, origin in origins]
        for column, origins in program.lineage.items()
    }
    return AssetSpec(
        keys.table_key(join.name),
        deps=[keys.table_key(name) for name in sides],
        description=join.description or f"Join {join.name} of {' and '.join(sides)}.",
        group_name=keys.VIEWS,
        kinds={"postgres", "view"},
        owners=list(join.owners or first.owners or first.source.owners),
        metadata={
            "dagster/column_schema": columns.table_columns(
                ((c.name, c.pg_type.partition(" COLLATE")[0]) for c in program.columns), _described(program)
            ),
            **columns.lineage_of_several(lineage),
            **code.references(declared),
            "how": MetadataValue.text(_how(join)),
        },
    )


def _how(join: Join) -> str:
    alone = f", or alone once none can come, {join.lateness} late at most" if join.kind == "left" else ""
    return f"each row of {join.left.name} with each of {join.right.name} {' to '.join(join.within)} after it{alone}"


def _described(program: JoinProgram) -> dict[str, str]:
    """What each column is; those that are no copies have several origins or none that is a column."""
    names = {f"{table.name}_time": f"event time of the row of {table.name}" for table in program.join.tables}
    flags = {
        column: f"whether there is a row of {origins[-1][0]}"
        for column, origins in program.lineage.items()
        if len(origins) == 2
    }
    copies = {
        column: f"{origins[0][1]} of {origins[0][0]}"
        for column, origins in program.lineage.items()
        if len(origins) == 1
    }
    return copies | names | flags
