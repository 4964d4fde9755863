"""Columns of topics and tables as Dagster metadata: schema, lineage, and the lineage again as a table people can read.

Open-source Dagster stores column lineage without showing it, so the markdown table says the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dagster import AssetKey, MetadataValue, TableColumn, TableColumnDep, TableColumnLineage, TableSchema

Field = Mapping[str, Any]  # one field of an Avro record, as in the .avsc


def avro_type(declared: Any) -> str:
    """An Avro type in one word or two: `string`, `enum(A, B)`, `long timestamp-micros`, `nullable int`."""
    if isinstance(declared, list):
        inner = [avro_type(part) for part in declared if part != "null"]
        return ("nullable " if "null" in declared else "") + " or ".join(inner)
    if isinstance(declared, dict):
        kind = declared["type"]
        if kind == "enum":
            return f"enum({', '.join(declared['symbols'])})"
        if declared.get("logicalType") == "decimal":
            return f"decimal({declared['precision']},{declared.get('scale', 0)})"
        logical = declared.get("logicalType")
        return f"{kind} {logical}" if logical else str(kind)
    return str(declared)


def topic_columns(fields: Iterable[Field]) -> TableSchema:
    """The message's fields as a table schema."""
    return TableSchema(
        columns=[
            TableColumn(field["name"], avro_type(field["type"]), description=field.get("doc") or None)
            for field in fields
        ]
    )


def table_columns(columns: Iterable[tuple[str, str]], described: Mapping[str, str]) -> TableSchema:
    """(name, Postgres type) pairs as a table schema; `described` gives the expression of a column."""
    return TableSchema(columns=[TableColumn(name, kind, description=described.get(name)) for name, kind in columns])


def lineage_of_several(columns: Mapping[str, Sequence[tuple[AssetKey, str]]]) -> dict[str, MetadataValue[Any]]:
    """Metadata entries that say from which columns of which assets each column is made."""
    rows = [
        f"| {column} | {', '.join(f'{source.path[-1]}.{origin}' for source, origin in origins)} |"
        for column, origins in columns.items()
    ]
    deps = {column: [TableColumnDep(source, origin) for source, origin in found] for column, found in columns.items()}
    return {
        "dagster/column_lineage": MetadataValue.column_lineage(TableColumnLineage(deps)),
        "column lineage": MetadataValue.md("\n".join(["| column | made from |", "| --- | --- |", *rows])),
    }


def lineage(source: AssetKey, columns: Mapping[str, Sequence[str]]) -> dict[str, MetadataValue[Any]]:
    """Metadata entries that say from which columns of `source` each column is made."""
    rows = [f"| {column} | {', '.join(origins) or '(counts records)'} |" for column, origins in columns.items()]
    return {
        "dagster/column_lineage": MetadataValue.column_lineage(
            TableColumnLineage(
                {column: [TableColumnDep(source, origin) for origin in origins] for column, origins in columns.items()}
            )
        ),
        "column lineage": MetadataValue.md(
            "\n".join([f"| column | made from {source.path[-1]} |", "| --- | --- |", *rows])
        ),
    }
