"""Tables in the graph: kept true by stream workers, whose work the fleet sensor reports as materializations.

Tables with time windows are partitioned by the UTC day of the window's start. They can be selected for materialization,
as backfills will need; until restating is there, such a run fails at once and changes nothing.
"""

# No postponed annotations here: dagster looks at the type of `context`.
from datetime import UTC, date, datetime, timedelta
from typing import Any

from dagster import (
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    DailyPartitionsDefinition,
    Failure,
    FreshnessPolicy,
    MaterializeResult,
    MetadataValue,
)
from dagster import asset as dagster_asset

from orchestration import code, columns, keys
from topology.aggregate import Aggregate
from topology.duration import micros
from topology.latest import Latest
from topology.program import TableProgram
from topology.window import Count, Session, TimeWindow
from topology.windowing import first_start

_EPOCH = datetime.fromtimestamp(0, UTC)


def asset(program: TableProgram, pipeline: str, declared: code.Place) -> AssetsDefinition:
    """The asset of one table."""
    table = program.table
    topic = keys.topic_key(table.source.name)
    fresh = timedelta(microseconds=micros(table.fresh_within))

    @dagster_asset(
        key=keys.table_key(table.name),
        deps=[topic, *dict.fromkeys(keys.table_key(lookup.table) for lookup in program.lookups)],
        partitions_def=days(program),
        group_name=keys.TABLES,
        kinds={"postgres", "table"},
        owners=list(table.owners or table.source.owners),
        description=table.description or f"Table {table.name}.",
        freshness_policy=FreshnessPolicy.time_window(fail_window=fresh, warn_window=fresh * 2 / 3),
        metadata={
            "dagster/column_schema": columns.table_columns(
                ((c.name, c.pg_type.partition(" COLLATE")[0]) for c in program.columns), described(program)
            ),
            **_lineage(topic, program),
            **code.references(declared),
            "pipeline": MetadataValue.text(table.source.pipeline_name),
            "group by": MetadataValue.text(", ".join(table.by)),
            "window": MetadataValue.text(str(table.window or "none")),
            "only where": MetadataValue.text(table.where or "every valid record"),
        },
    )
    def keep(context: AssetExecutionContext) -> MaterializeResult[None]:
        raise Failure(
            f"{table.name} was not materialized and nothing was changed: the stream worker of pipeline {pipeline} "
            f"keeps it true, and a run cannot restate it yet; to build it anew from its topic run "
            f"`headrace pipeline rebuild {pipeline}`",
            allow_retries=False,
        )

    return keep


def _lineage(topic: AssetKey, program: TableProgram) -> dict[str, MetadataValue[Any]]:
    """The columns that each column is made of: the topic's, and those that were looked up."""
    if not program.lookups:
        return columns.lineage(topic, program.lineage)
    looked_up = {
        column.name: (keys.table_key(lookup.table), origin)
        for lookup in program.lookups
        for column, origin in zip(lookup.columns, lookup.origins, strict=True)
    }
    return columns.lineage_of_several(
        {
            name: [looked_up.get(origin, (topic, origin)) for origin in origins]
            for name, origins in program.lineage.items()
        }
    )


def described(program: TableProgram) -> dict[str, str]:
    """What each column of a table is: how it is computed, or its part in the row's key."""
    table = program.table
    if isinstance(table, Latest):
        return _newest(table)
    found = dict.fromkeys(
        table.by, "one row for each value" if not table.window else "one row for each value and window"
    )
    if isinstance(table.window, Count):
        found |= {
            "windowNumber": f"0 for the first {table.window} of the key by offset, 1 for the next, and so on",
            "windowRecords": f"how many there are so far; {table.window.records} when the window is full",
        }
    elif isinstance(table.window, Session):
        when = table.source.event_time.column
        found |= {
            "windowStart": f"{when} of the first record of the session; its UTC day is the partition",
            "windowEnd": f"{when} of the last one + {table.window.gap}, not in the session any more",
        }
    elif table.window:
        when, clocks = (
            table.source.event_time.column,
            f" by the clocks of {table.window.zone}" if table.window.zone else "",
        )
        found |= {
            "windowStart": f"first moment of the {table.window.size} that hold {when}; its UTC day is the partition",
            "windowEnd": f"windowStart + {table.window.size}{clocks}, not in the window any more",
        }
    derived = table.derived if isinstance(table, Aggregate) else {}
    return found | dict(table.measures) | dict(derived)


def _newest(latest: Latest) -> dict[str, str]:
    found = dict.fromkeys(latest.by, "one row for each value" if not latest.history else "key of the version")
    if latest.history:
        when = latest.source.event_time.column
        found |= {"valid_from": f"{when} of the version", "valid_to": f"{when} of the next one; null for the newest"}
    return found | dict(latest.measures)


def days(program: TableProgram) -> DailyPartitionsDefinition | None:
    """UTC days of the window's start, today included; None for a table without time windows."""
    first = first_day(program)
    if first is None:
        return None
    return DailyPartitionsDefinition(start_date=first.isoformat(), end_offset=1)  # without the offset today is no day


def first_day(program: TableProgram) -> date | None:
    """Day on which the first window begins, the one that `not_before` lies in; None for a table without windows."""
    not_before = program.table.source.not_before
    window = program.table.window
    if not isinstance(window, TimeWindow) or not_before is None:
        return None
    first = datetime.fromisoformat(not_before).replace(tzinfo=UTC)
    start = first_start(window, (first - _EPOCH) // timedelta(microseconds=1))
    return (_EPOCH + timedelta(microseconds=start)).date()
