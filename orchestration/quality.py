"""Expectations in the graph: a check each, and one run of Great Expectations per system, by schedule or demand.

A critical check is blocking and its failure an error, a warning is neither. What a run does is in
`orchestration.quality_run`, imported by the run only.
"""

# No postponed annotations here: dagster looks at the type of `context`.
from collections.abc import Iterator, Sequence

from dagster import (
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSpec,
    AssetSelection,
    DefaultScheduleStatus,
    MetadataValue,
    ScheduleDefinition,
    define_asset_job,
    multi_asset_check,
)
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.storage.tags import RETRY_ON_ASSET_OR_OP_FAILURE_TAG

from assets.catalog import Catalog
from orchestration import keys
from orchestration.verdict import lasting
from topology.check_expect import Expected
from topology.program import TableProgram

HOURLY = "17 * * * *"  # a run costs a few seconds of processor time, most of it the import of Great Expectations

Table = tuple[TableProgram, tuple[Expected, ...]]


def checks(found: Catalog) -> list[AssetChecksDefinition]:
    """The checks of all expectations, one definition (and one step of a run) per system."""
    return [_checks(system, tables) for system, tables in _systems(found).items()]


def jobs(found: Catalog) -> list[UnresolvedAssetJobDefinition]:
    """A job `quality_<system>` per system with expectations."""
    return [_job(system, tables) for system, tables in _systems(found).items()]


def schedules(found: Catalog) -> list[ScheduleDefinition]:
    """The schedule of each job: every hour, on unless somebody turns it off."""
    return [
        ScheduleDefinition(
            name=f"quality_{system}_hourly",
            job_name=f"quality_{system}",
            cron_schedule=HOURLY,
            default_status=DefaultScheduleStatus.RUNNING,
            description=f"Great Expectations on the tables of {system}, every hour.",
        )
        for system in _systems(found)
    ]


def _systems(found: Catalog) -> dict[str, list[Table]]:
    """Tables with expectations by the system they belong to."""
    systems: dict[str, list[Table]] = {}
    for name, expected in found.expectations.items():
        program = found.tables[name]
        systems.setdefault(found.system(program.table), []).append((program, expected))
    return systems


def _job(system: str, tables: Sequence[Table]) -> UnresolvedAssetJobDefinition:
    checked = [spec.key for spec in _specs(tables)]
    return define_asset_job(
        f"quality_{system}",
        AssetSelection.checks(*checked),
        description=f"What is expected of the tables of {system}, and Data Docs of the result.",
        tags={RETRY_ON_ASSET_OR_OP_FAILURE_TAG: "false"},  # a critical check that is red stays red in a second run
    )


def _specs(tables: Sequence[Table]) -> list[AssetCheckSpec]:
    return [_spec(one) for _, expected in tables for one in expected]


def _spec(one: Expected) -> AssetCheckSpec:
    return AssetCheckSpec(
        one.name,
        asset=keys.table_key(one.table),
        description=f"{one.says}." if one.critical else f"{one.says} (a warning).",
        blocking=one.critical,
        metadata={"expectation": MetadataValue.text(one.says), "severity": "critical" if one.critical else "warning"},
    )


def _checks(system: str, tables: Sequence[Table]) -> AssetChecksDefinition:
    @multi_asset_check(
        name=f"expectations_{system}",  # not the job's name: ops and jobs share one space of names
        specs=_specs(tables),
        can_subset=True,
        description=f"Great Expectations on the tables of {system}.",
        compute_kind="great expectations",
    )
    def expectations(context: AssetCheckExecutionContext) -> Iterator[AssetCheckResult]:
        from orchestration.quality_run import Wanted, run

        chosen = {(key.asset_key, key.name) for key in context.selected_asset_check_keys}
        wanted = [
            Wanted(program, picked, whole=len(picked) == len(expected))
            for program, expected in tables
            if (picked := tuple(one for one in expected if (keys.table_key(one.table), one.name) in chosen))
        ]
        yield from lasting(context.instance, run(context.log, system, wanted, context.run.run_id))

    return expectations
