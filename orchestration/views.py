"""Follow-on views in the graph: external assets downstream of their table, for Postgres computes them when asked."""

from __future__ import annotations

from dagster import AssetSpec, MetadataValue

from orchestration import code, columns, keys
from topology.program import TableProgram, ViewProgram
from topology.view import Rolling, View


def spec(program: ViewProgram, table: TableProgram, declared: code.Place) -> AssetSpec:
    """The asset of one view."""
    view, of = program.view, keys.table_key(program.table)
    return AssetSpec(
        keys.table_key(view.name),
        deps=[of],
        description=view.description or f"View {view.name} of table {program.table}.",
        group_name=keys.VIEWS,
        kinds={"postgres", "view"},
        owners=list(view.owners or table.table.owners or table.table.source.owners),
        metadata={
            "dagster/column_schema": columns.table_columns(
                ((c.name, c.pg_type.partition(" COLLATE")[0]) for c in program.columns), _described(program)
            ),
            **columns.lineage(of, program.lineage),
            **code.references(declared),
            "how": MetadataValue.text(_how(view)),
        },
    )


def _how(view: View) -> str:
    if isinstance(view, Rolling):
        empty = "left out" if view.empty == "skip" else "counted as 0"
        return f"over {view.windows} windows; windows without a value are {empty}"
    which = "smallest" if view.smallest else "largest"
    return f"the {view.k} {which} by {view.by}{''.join(f', of each {name}' for name in view.within)}"


def _described(program: ViewProgram) -> dict[str, str]:
    view = program.view
    found = {column.name: f"as in {program.table}" for column in program.columns}
    return found | (dict(view.columns) if isinstance(view, Rolling) else {"rank": f"1 for the first by {view.by}"})
