"""The check `schema_drift` of topics and tables. Only definitions here; the run imports drivers."""

# No postponed annotations here: dagster looks at the type of `context`.
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from dagster import (
    AssetCheckExecutionContext,
    AssetCheckKey,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetKey,
    AssetSelection,
    DefaultScheduleStatus,
    MetadataValue,
    ScheduleDefinition,
    define_asset_job,
    multi_asset_check,
)
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from assets.catalog import Catalog
from orchestration import keys
from orchestration.verdict import lasting
from topology import Topic
from topology.program import TableProgram

if TYPE_CHECKING:
    from orchestration.drift import TableDrift

NAME = "schema_drift"


def checks(catalog: Catalog) -> list[AssetChecksDefinition]:
    """One op for all topics, one for all tables: each is a single look at Kafka or Postgres."""
    found = []
    if catalog.topics:
        found.append(_topics(catalog.provisioned))
    if catalog.tables:
        found.append(_tables(list(catalog.tables.values())))
    return found


def jobs(catalog: Catalog) -> list[UnresolvedAssetJobDefinition]:
    """The job `schema_drift`: every topic and table."""
    wanted = [*(keys.topic_key(topic.name) for topic in catalog.provisioned), *map(keys.table_key, catalog.tables)]
    if not wanted:
        return []
    return [
        define_asset_job(
            NAME,
            AssetSelection.checks(*(AssetCheckKey(key, NAME) for key in wanted)),
            description="Compare topics, schemas and tables with their declarations.",
            tags={"dagster/max_runtime": "600"},
        )
    ]


def schedules(catalog: Catalog) -> list[ScheduleDefinition]:
    """The comparison of every hour."""
    if not catalog.topics:
        return []
    return [
        ScheduleDefinition(
            name="schema_drift_hourly",
            job_name=NAME,
            cron_schedule="5 * * * *",
            execution_timezone="UTC",
            default_status=DefaultScheduleStatus.RUNNING,
            description="Compare topics, schemas and tables with their declarations every hour.",
        )
    ]


def _topics(topics: Sequence[Topic]) -> AssetChecksDefinition:
    specs = [
        AssetCheckSpec(
            NAME,
            asset=keys.topic_key(topic.name),
            description=f"Partitions, retention, cleanup policy and schema of {topic.name} are as declared.",
        )
        for topic in topics
    ]

    @multi_asset_check(name="schema_drift_topics", specs=specs, can_subset=True)
    def schema_drift_topics(context: AssetCheckExecutionContext) -> Iterator[AssetCheckResult]:
        from headrace.errors import HeadraceError
        from headrace.settings import load
        from ingestion.provision import compare

        chosen = {key.asset_key for key in context.selected_asset_check_keys}
        wanted = [topic for topic in topics if keys.topic_key(topic.name) in chosen]
        try:
            found = compare(load(), wanted)
        except HeadraceError as error:
            found = {topic.name: (str(error),) for topic in wanted}
        results = (_result(keys.topic_key(one.name), found[one.name], AssetCheckSeverity.WARN) for one in wanted)
        yield from lasting(context.instance, results)

    return schema_drift_topics


def _tables(programs: Sequence[TableProgram]) -> AssetChecksDefinition:
    specs = [
        AssetCheckSpec(
            NAME,
            asset=keys.table_key(program.name),
            description=f"The view {program.name} and its live version are those of the declaration.",
        )
        for program in programs
    ]

    @multi_asset_check(name="schema_drift_tables", specs=specs, can_subset=True)
    def schema_drift_tables(context: AssetCheckExecutionContext) -> Iterator[AssetCheckResult]:
        from headrace.errors import HeadraceError
        from headrace.settings import load
        from orchestration import drift

        chosen = {key.asset_key for key in context.selected_asset_check_keys}
        wanted = [program for program in programs if keys.table_key(program.name) in chosen]
        try:
            found = drift.tables(load(), wanted)
        except HeadraceError as error:
            found = {program.name: drift.TableDrift((str(error),)) for program in wanted}
        yield from lasting(context.instance, (_table(program.name, found[program.name]) for program in wanted))

    return schema_drift_tables


def _table(name: str, found: "TableDrift") -> AssetCheckResult:
    severity = AssetCheckSeverity.ERROR if found.rebuild else AssetCheckSeverity.WARN
    agreed = "as declared" if found.built else "no worker has built the table yet: nothing to compare"
    return _result(keys.table_key(name), found.lines, severity, agreed)


def _result(
    key: AssetKey, lines: Sequence[str], severity: AssetCheckSeverity, agreed: str = "as declared"
) -> AssetCheckResult:
    more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
    return AssetCheckResult(
        passed=not lines,
        asset_key=key,
        check_name=NAME,
        severity=severity,
        description=f"{lines[0]}{more}" if lines else agreed,
        metadata={"differences": len(lines), "drift": MetadataValue.md("\n".join(f"- {line}" for line in lines))},
    )
