"""The job `event_log_retention`: Dagster's own storage does not grow for ever. Only definitions here."""

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

NAME = "event_log_retention"


@op(out=Out(Nothing), pool=NAME, description="Delete old events and runs from Dagster's storage, in batches.")
def delete_old_events(context: OpExecutionContext) -> None:
    """See `orchestration.event_log`."""
    from headrace.clock import SYSTEM_CLOCK
    from headrace.errors import HeadraceError
    from headrace.settings import load
    from orchestration.event_log import delete_old

    try:
        settings = load()
        deleted = delete_old(
            context.instance,
            event_days=settings.event_log_days,
            run_days=settings.run_days,
            now=SYSTEM_CLOCK.now(),
            say=context.log.info,
        )
    except HeadraceError as error:
        raise Failure(str(error), allow_retries=False) from error
    context.add_output_metadata(
        {
            "events deleted": sum(deleted.events.values()),
            "events deleted by type": dict(sorted(deleted.events.items())),
            "runs deleted": deleted.runs,
            "old runs kept for a status": deleted.runs_kept,
        }
    )


@job(name=NAME, description="Delete old events and runs that no status in the UI needs.")
def event_log_retention() -> None:
    """One op."""
    delete_old_events()


def jobs() -> list[JobDefinition]:
    """The job."""
    return [event_log_retention]


def schedules() -> list[ScheduleDefinition]:
    """Its daily schedule."""
    return [
        ScheduleDefinition(
            name="event_log_retention_daily",
            job_name=NAME,
            cron_schedule="45 3 * * *",
            execution_timezone="UTC",
            default_status=DefaultScheduleStatus.RUNNING,
            description="Delete old events and runs every day.",
        )
    ]
