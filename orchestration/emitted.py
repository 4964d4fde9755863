"""Topics of final rows in the graph: external assets downstream of their table, for the table's worker writes them."""

from __future__ import annotations

from dagster import AssetSpec, MetadataValue

from orchestration import code, columns, keys
from topology.final import FinalTopic
from topology.program import TableProgram


def spec(topic: FinalTopic, table: TableProgram, declared: code.Place) -> AssetSpec:
    """The asset of one topic."""
    of = keys.table_key(table.name)
    made: dict[str, tuple[str, ...]] = {column.name: (column.name,) for column in table.columns}
    made |= {field.name: () for field in topic.shape.fields if field.name not in made}
    return AssetSpec(
        keys.topic_key(topic.name),
        deps=[of],
        description=topic.description,
        group_name=keys.EMITTED,
        kinds={"kafka", topic.format},
        owners=list(topic.owners),
        metadata={
            "dagster/column_schema": columns.topic_columns(topic.shape.parsed["fields"]),
            **columns.lineage(of, made),
            **code.references(declared),
            "pipeline": MetadataValue.text(table.table.source.pipeline_name),
            "partitions": MetadataValue.int(topic.partitions),
            "record key": MetadataValue.text(topic.key),
            "emitted when": MetadataValue.text("a row is final, and again with the next revision when it changes"),
        },
    )
