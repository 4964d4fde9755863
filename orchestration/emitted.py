"""Topics that the worker of a table writes, in the graph: its rows, and alerts on what happens to them."""

from __future__ import annotations

from dagster import AssetSpec, MetadataValue

from orchestration import code, columns, keys
from topology.emitted import EmittedTopic
from topology.program import TableProgram, TransitionProgram


def spec(topic: EmittedTopic, table: TableProgram, declared: code.Place) -> AssetSpec:
    """The asset of one topic."""
    of = keys.table_key(table.name)
    made: dict[str, tuple[str, ...]] = {field.name: () for field in topic.shape.fields}
    made |= {column.name: (column.name,) for column in table.columns}
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
            "emitted when": MetadataValue.text(topic.emitted_when),
        },
    )


def alerts(found: TransitionProgram, table: TableProgram, declared: code.Place) -> AssetSpec:
    """The asset of alerts on a table's transitions."""
    of, topic = keys.table_key(table.name), found.alert
    return AssetSpec(
        keys.topic_key(topic.name),
        deps=[of],
        description=topic.description or f"Kafka topic {topic.name}, alerts on transitions of table {table.name}.",
        group_name=keys.EMITTED,
        kinds={"kafka", topic.format},
        owners=list(topic.owners),
        metadata={
            "dagster/column_schema": columns.topic_columns(topic.shape.parsed["fields"]),
            **columns.lineage(of, found.lineage),
            **code.references(declared),
            "pipeline": MetadataValue.text(topic.maker),
            "partitions": MetadataValue.int(topic.partitions),
            "record key": MetadataValue.text(topic.key),
            "emitted when": MetadataValue.text(f"a row becomes newer and {topic.when}"),
        },
    )
