"""The check `recount` of every table: does the log hold what the ledger says was consumed, offset by offset?

One op per topic reads it once for all selected tables. Only definitions here; the run imports drivers.
"""

# No postponed annotations here: dagster looks at the type of `context`.
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from dagster import (
    AssetCheckExecutionContext,
    AssetCheckKey,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    AssetCheckSpec,
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

if TYPE_CHECKING:
    from orchestration.recounting import Compared, Finding

NAME = "recount"
_HOURS = 3600
_TAGS = {"dagster/max_runtime": str(2 * _HOURS)}  # read by run monitoring: a stuck reading does not stay for ever


def checks(catalog: Catalog) -> list[AssetChecksDefinition]:
    """One op per topic that feeds tables, with a check per table."""
    feeding = [pipeline for pipeline in catalog.pipelines.values() if not pipeline.apart]
    return [_check(p.topic.name, [table.name for table in p.tables]) for p in feeding]


def jobs(catalog: Catalog) -> list[UnresolvedAssetJobDefinition]:
    """The job `recount`: every table of every topic."""
    selected = [AssetCheckKey(keys.table_key(table), NAME) for table in catalog.tables]
    if not selected:
        return []
    return [
        define_asset_job(
            NAME,
            AssetSelection.checks(*selected),
            description="Recount every topic with an independent reader and compare it with the ledger.",
            tags=_TAGS,
        )
    ]


def schedules(catalog: Catalog) -> list[ScheduleDefinition]:
    """The recount of every night."""
    if not catalog.tables:
        return []
    return [
        ScheduleDefinition(
            name="recount_nightly",
            job_name=NAME,
            cron_schedule="15 2 * * *",
            execution_timezone="UTC",
            default_status=DefaultScheduleStatus.RUNNING,
            description="Recount every topic each night.",
        )
    ]


def _check(topic: str, tables: Sequence[str]) -> AssetChecksDefinition:
    specs = [
        AssetCheckSpec(
            NAME,
            asset=keys.table_key(table),
            blocking=True,
            description=f"An independent reader finds in {topic} what {table} consumed, offset by offset.",
        )
        for table in tables
    ]

    @multi_asset_check(
        name=f"recount_{keys.op_name(topic)}",
        specs=specs,
        can_subset=True,
        pool=NAME,  # one at a time: a reading takes a core
        description=f"Read {topic} once and compare it with the positions of its tables.",
    )
    def recount_topic(context: AssetCheckExecutionContext) -> Iterator[AssetCheckResult]:
        from headrace.errors import HeadraceError
        from headrace.settings import load
        from orchestration.recounting import examine

        chosen = {key.asset_key for key in context.selected_asset_check_keys}
        wanted = [table for table in tables if keys.table_key(table) in chosen]
        found: Any
        try:
            found = examine(load(), topic, wanted, context.log.info)
        except HeadraceError as error:
            found = dict.fromkeys(wanted, error)
        results = (
            _failed(table, str(found[table]))
            if isinstance(found[table], HeadraceError)
            else _result(table, topic, found[table])
            for table in wanted
        )
        yield from lasting(context.instance, results)

    return recount_topic


def _failed(table: str, line: str) -> AssetCheckResult:
    return AssetCheckResult(passed=False, asset_key=keys.table_key(table), check_name=NAME, description=line)


def _result(table: str, topic: str, finding: "Finding") -> AssetCheckResult:
    counted = [partition for partition in finding.partitions if partition.found]
    return AssetCheckResult(
        passed=not finding.differing and not finding.unread,
        severity=AssetCheckSeverity.ERROR if finding.differing else AssetCheckSeverity.WARN,
        asset_key=keys.table_key(table),
        check_name=NAME,
        description=_description(topic, finding),
        metadata={
            "records": sum(partition.found.records for partition in counted if partition.found),
            "control": sum(partition.found.markers for partition in counted if partition.found),
            "complete": _complete(finding),
            "per partition": MetadataValue.md(_table(finding.partitions)),
            "seconds": finding.seconds,
            "records per second": finding.read / finding.seconds if finding.seconds else 0.0,
        },
    )


def _description(topic: str, finding: "Finding") -> str:
    from orchestration.recount import Delivered

    if finding.differing:
        first = finding.differing[0]
        found = first.found or Delivered()
        control = "" if first.control is None else f" ({first.control:,} of them control)"
        more = f"; {len(finding.differing)} partitions differ" if len(finding.differing) > 1 else ""
        return (
            f"{topic}[{first.partition}] from {first.first:,} to {first.next:,}: the ledger consumed "
            f"{first.consumed:,} records{control} and the log delivers {found.records:,} ({found.markers:,}){more}; "
            "keep the topic, see the table below and `headrace status`, then run `headrace pipeline rebuild`"
        )
    if finding.unread:
        numbers = ", ".join(str(partition.partition) for partition in finding.unread)
        return (
            f"nothing to recount in partitions {numbers} of {topic}: retention has removed what was consumed, or one "
            "batch is larger than HEADRACE_RECOUNT_RECORDS"
        )
    return "log and ledger agree in every partition"


def _complete(finding: "Finding") -> str:
    tails = [partition for partition in finding.partitions if partition.found is not None and not partition.whole]
    if not tails:
        return "from the first offset"
    return ", ".join(f"partition {tail.partition}: complete from offset {tail.first}" for tail in tails)


def _table(partitions: Sequence["Compared"]) -> str:
    head = (
        "| partition | from | to | consumed: ledger | log | control: ledger | log | gaps: ledger | log | equal |",
        "| --: | --: | --: | --: | --: | --: | --: | --: | --: | --- |",
    )
    return "\n".join([*head, *(_row(partition) for partition in partitions)])


def _row(one: "Compared") -> str:
    found = one.found
    gaps = one.gaps
    cells = (
        one.partition,
        one.first,
        one.next,
        one.consumed,
        found.records if found else None,
        one.control,
        found.markers if found else None,
        gaps[0],
        gaps[1],
    )
    verdict = "not recounted" if found is None else "yes" if one.equal else "**NO**"
    return f"| {' | '.join('' if cell is None else f'{cell:,}' for cell in cells)} | {verdict} |"
