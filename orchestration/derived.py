"""Derived topics in the graph: made by stream workers, whose work the fleet sensor reports as materializations."""

# No postponed annotations here: dagster looks at the type of `context`.
import json
from datetime import timedelta

from dagster import (
    AssetExecutionContext,
    AssetsDefinition,
    Failure,
    FreshnessPolicy,
    MaterializeResult,
    MetadataValue,
)
from dagster import asset as dagster_asset

from orchestration import code, columns, keys
from topology.derived import Derived
from topology.duration import micros
from topology.program import TableProgram


def asset(program: TableProgram, derived: Derived, declared: code.Place) -> AssetsDefinition:
    """The asset of one derived topic."""
    source = keys.topic_key(derived.source.name)
    fresh = timedelta(microseconds=micros(derived.fresh_within))

    @dagster_asset(
        key=keys.topic_key(derived.name),
        deps=[source],
        group_name=keys.DERIVED,
        kinds={"kafka", derived.format},
        owners=list(derived.owners),
        description=derived.description or f"Kafka topic {derived.name}, made from {derived.source.name}.",
        freshness_policy=FreshnessPolicy.time_window(fail_window=fresh, warn_window=fresh * 2 / 3),
        metadata={
            "dagster/column_schema": columns.topic_columns(derived.shape.parsed["fields"]),
            **columns.lineage(source, program.lineage),
            **code.references(declared),
            "pipeline": MetadataValue.text(derived.maker),
            "schema": MetadataValue.text(derived.shape_name),
            "partitions": MetadataValue.int(derived.partitions),
            "record key": MetadataValue.text(derived.key),
            "event time": MetadataValue.text(f"{derived.event_time.column} ({derived.event_time.format})"),
            "only where": MetadataValue.text(derived.where or "every valid record"),
            "must hold": MetadataValue.text(json.dumps(dict(derived.require))),
        },
    )
    def make(context: AssetExecutionContext) -> MaterializeResult[None]:
        raise Failure(
            f"{derived.name} was not materialized and nothing was changed: the stream worker of pipeline "
            f"{derived.maker} makes it from {derived.source.name}, record by record; `headrace status` shows how far",
            allow_retries=False,
        )

    return make
