"""Archives in the graph: written by stream workers, whose work the fleet sensor reports as materializations."""

# No postponed annotations here: dagster looks at the type of `context`.
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
from topology.archive import Archive
from topology.duration import micros
from topology.program import TableProgram


def asset(program: TableProgram, archive: Archive, declared: code.Place) -> AssetsDefinition:
    """The asset of one archive."""
    topic = keys.topic_key(archive.source.name)
    fresh = timedelta(microseconds=micros(archive.fresh_within))

    @dagster_asset(
        key=keys.lake_key(archive.name),
        deps=[topic],
        group_name=keys.LAKES,
        kinds={"parquet"},
        owners=list(archive.owners or archive.source.owners),
        description=archive.description or f"Topic {archive.source.name} as Parquet files.",
        freshness_policy=FreshnessPolicy.time_window(fail_window=fresh, warn_window=fresh * 2 / 3),
        metadata={
            "dagster/column_schema": columns.table_columns(((c.name, c.duck_type) for c in program.columns), {}),
            **columns.lineage(topic, program.lineage),
            **code.references(declared),
            "pipeline": MetadataValue.text(archive.maker),
            "address": MetadataValue.text(archive.at or "below HEADRACE_LAKE"),
            "files": MetadataValue.text(f"the view {archive.name} lists them"),
            "a file after": MetadataValue.text(f"{archive.roll_size} or {archive.roll_after}"),
        },
    )
    def write(context: AssetExecutionContext) -> MaterializeResult[None]:
        raise Failure(
            f"{archive.name} was not materialized and nothing was changed: the stream worker of pipeline "
            f"{archive.maker} writes it from {archive.source.name}; `headrace status` shows how far",
            allow_retries=False,
        )

    return write
