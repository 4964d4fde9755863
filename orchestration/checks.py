"""The cheap checks as definitions: ticks report them, and they can be run on demand by the same functions."""

# No postponed annotations here: dagster looks at the type of `context`.
from collections.abc import Iterable, Iterator

from dagster import (
    AssetCheckExecutionContext,
    AssetCheckKey,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSpec,
    AssetSelection,
    DefaultScheduleStatus,
    ScheduleDefinition,
    define_asset_job,
)
from dagster import multi_asset_check as dagster_multi_asset_check
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from orchestration import keys
from topology.program import PipelineProgram, TableProgram

TABLE_CHECKS = {
    "accounting": "Every consumed record has one fate and no offset is left out: both identities, every partition.",
    "lag": "No record waits longer than `max_lag` to be consumed.",
    "volume": "The last 24 hours brought about as many records as the days before.",
    "freshness": "Everything is in that reached the topic until `fresh_within` ago.",
}
FINAL_SAYS = "Rows become final and reach their topic: no partition holds them back, and nothing piles up."
TOPIC_CHECKS = {
    "workers": "Workers run as the switch says; none stalls, none crashes again and again.",
    "fleet": "The fleet sensor ticks: toggles are obeyed and tables report.",
}
MAKERS_SAYS = "Workers that make it run as the switch says; none stalls, none crashes again and again."
_BLOCKING = {"accounting"}
_JOB = "pipelines"


def check(program: PipelineProgram) -> AssetChecksDefinition:
    """The cheap checks of one pipeline: of what it makes, and of its workers."""
    specs = [spec for table in program.tables for spec in _of_table(table)]
    topic = keys.topic_key(program.topic.name)
    if program.apart:
        makers = [keys.program_key(table) for table in program.tables]
        specs += [AssetCheckSpec(keys.MAKERS, asset=key, description=MAKERS_SAYS) for key in makers]
    else:
        specs += [AssetCheckSpec(name, asset=topic, description=says) for name, says in TOPIC_CHECKS.items()]

    @dagster_multi_asset_check(name=f"checks_{keys.op_name(program.name)}", specs=specs, can_subset=True)
    def look(context: AssetCheckExecutionContext) -> Iterator[AssetCheckResult]:
        from orchestration.checking import judged
        from orchestration.verdict import lasting

        wanted: set[AssetCheckKey] = set(context.selected_asset_check_keys)
        found = (verdict.result() for verdict in judged(program) if verdict.key in wanted)
        yield from lasting(context.instance, found)

    return look


def jobs(pipelines: Iterable[PipelineProgram]) -> list[UnresolvedAssetJobDefinition]:
    """The job `pipelines`: are workers and fleet there? Sensors that are switched off cannot tell."""
    topics = [keys.topic_key(pipeline.topic.name) for pipeline in pipelines if not pipeline.apart]
    wanted = [AssetCheckKey(topic, name) for topic in topics for name in TOPIC_CHECKS]
    if not wanted:
        return []
    return [
        define_asset_job(
            _JOB, AssetSelection.checks(*wanted), description="Look at the workers of every pipeline and at the fleet."
        )
    ]


def schedules(pipelines: Iterable[PipelineProgram]) -> list[ScheduleDefinition]:
    """The look of every hour."""
    return [
        ScheduleDefinition(
            name=f"{_JOB}_hourly",
            job_name=_JOB,
            cron_schedule="35 * * * *",
            execution_timezone="UTC",
            default_status=DefaultScheduleStatus.RUNNING,
            description="Look at workers and fleet every hour, also of pipelines that are switched off.",
        )
        for _ in jobs(pipelines)
    ]


def _of_table(table: TableProgram) -> list[AssetCheckSpec]:
    key = keys.program_key(table)
    wanted = TABLE_CHECKS | ({"final": FINAL_SAYS} if table.final else {})
    return [
        AssetCheckSpec(name, asset=key, description=says, blocking=name in _BLOCKING) for name, says in wanted.items()
    ]
