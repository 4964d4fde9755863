"""Topics in the graph. Each is ONE asset; materializing it ingests all of its landing files, each exactly once."""

# No postponed annotations here: dagster looks at the type of `context`.
import json
from collections.abc import Sequence

from dagster import AssetExecutionContext, AssetKey, AssetsDefinition, MaterializeResult, MetadataValue
from dagster import asset as dagster_asset

from orchestration import code, columns, keys
from orchestration.landing import FILES_TAG
from topology import FileSource, Topic


def asset(topic: Topic, sources: Sequence[FileSource], declared: code.Place) -> AssetsDefinition:
    """The asset of `topic`."""
    shape = topic.shape
    deps: list[AssetKey] = [keys.source_key(source.name) for source in sources]

    @dagster_asset(
        key=keys.topic_key(topic.name),
        deps=deps,
        group_name=keys.TOPICS,
        kinds={"kafka", topic.format},
        owners=list(topic.owners),
        pool=f"ingest_{keys.op_name(topic.name)}",  # limit 1 (dagster.yaml): two runs of a topic wait for each other
        description=topic.description or f"Kafka topic {topic.name}.",
        metadata={
            "dagster/column_schema": columns.topic_columns(shape.parsed["fields"]),
            "schema": MetadataValue.text(topic.schema),
            "partitions": MetadataValue.int(topic.partitions),
            "record key": MetadataValue.text(topic.key),
            "event time": MetadataValue.text(f"{topic.event_time.column} ({topic.event_time.format})"),
            "must hold": MetadataValue.text(json.dumps(dict(topic.require))),
            **code.references(declared),
        },
    )
    def ingest_topic(context: AssetExecutionContext) -> MaterializeResult[None]:
        from orchestration.ingest import materialize

        watched = FILES_TAG not in context.run.tags
        attempt = None if watched else context.retry_number
        return materialize(context.log, topic, sources, context.log_event, attempt=attempt)

    return ingest_topic
