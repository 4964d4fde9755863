"""The job `lake_compaction`: closed days of archives in few files. Only definitions here."""

# No postponed annotations here: dagster looks at the type of `context`.
from dagster import (
    DefaultScheduleStatus,
    Failure,
    JobDefinition,
    Nothing,
    OpExecutionContext,
    Out,
    ScheduleDefinition,
    job,
    op,
)

from assets.catalog import Catalog

NAME = "lake_compaction"


@op(out=Out(Nothing), pool=NAME, description="Make few files of the many of closed days; delete what was replaced.")
def compact_lakes(context: OpExecutionContext) -> None:
    """See `stream_workers.archive.compaction`."""
    from assets import catalog
    from headrace.errors import HeadraceError
    from headrace.settings import load
    from ledger import connect
    from stream_workers.archive.housekeeping import compact_all

    try:
        settings = load()
        programs = catalog.load(settings.catalog).archives.values()
        with connect(settings.need_postgres(), application="headrace lake compaction") as db:
            done = compact_all(db, programs, settings)
    except HeadraceError as error:
        raise Failure(str(error), allow_retries=False) from error
    context.add_output_metadata(
        {name: f"{one.made} files made of {one.replaced}, {one.deleted} deleted" for name, one in done.items()}
    )


@job(name=NAME, description="Compact the closed days of every archive.")
def lake_compaction() -> None:
    """One op."""
    compact_lakes()


def jobs(found: Catalog) -> list[JobDefinition]:
    """The job, where there is an archive."""
    return [lake_compaction] if found.archives else []


def schedules(found: Catalog) -> list[ScheduleDefinition]:
    """Its daily schedule, where there is an archive."""
    if not found.archives:
        return []
    return [
        ScheduleDefinition(
            name="lake_compaction_daily",
            job_name=NAME,
            cron_schedule="30 3 * * *",
            execution_timezone="UTC",
            default_status=DefaultScheduleStatus.RUNNING,
            description="Compact the closed days of every archive each night.",
        )
    ]
