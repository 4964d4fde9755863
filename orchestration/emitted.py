"""Topics that the worker of a table writes, in the graph: its rows, and alerts on what happens to them."""

from __future__ import annotations

from collections.abc import Mapping

from dagster import AssetSpec, MetadataValue

from orchestration import code, columns, keys
from topology.emitted import EmittedTopic
from topology.program import TableProgram, TransitionProgram
from topology.topic import Topic


def spec(topic: EmittedTopic, table: TableProgram, declared: code.Place) -> AssetSpec:
    """The asset of one topic of rows."""
    made: dict[str, tuple[str, ...]] = {field.name: () for field in topic.shape.fields}
    made |= {column.name: (column.name,) for column in table.columns}
    return _asset(topic, table, declared, topic.description, made, topic.emitted_when)


def alerts(found: TransitionProgram, table: TableProgram, declared: code.Place) -> AssetSpec:
    """The asset of alerts on a table's transitions."""
    topic = found.alert
    described = topic.description or f"Kafka topic {topic.name}, alerts on transitions of table {table.name}."
    return _asset(topic, table, declared, described, found.lineage, f"a row becomes newer and {topic.when}")


def _asset(
    topic: Topic,
    table: TableProgram,
    declared: code.Place,
    description: str,
    made: Mapping[str, tuple[str, ...]],
    emitted_when: str,
) -> AssetSpec:
    of = keys.table_key(table.name)
    return AssetSpec(
        keys.topic_key(topic.name),
        deps=[of],
        description=description,
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
            "emitted when": MetadataValue.text(emitted_when),
        },
    )
