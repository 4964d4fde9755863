"""The graph: landing files -> topics -> tables. Only wiring; each kind of asset has its own module.

Loading needs no service and must stay under a second beyond `import dagster`: drivers and pandas are imported by the
functions that run, never here.
"""

from __future__ import annotations

from dagster import AssetSelection, Definitions, define_asset_job, in_process_executor

from assets import catalog as declared
from headrace.settings import settings
from orchestration import drift_checks, files, keys, landing, recount_checks, retention, tables, topics


def build(found: declared.Catalog) -> Definitions:
    """Definitions of everything in the catalog."""
    return Definitions(
        assets=[
            *(files.spec(source) for source in found.sources.values()),
            *(topics.asset(topic, found.sources_of(topic)) for topic in found.topics.values()),
            *(tables.spec(table) for table in found.tables.values()),
        ],
        asset_checks=[*recount_checks.checks(found), *drift_checks.checks(found)],
        jobs=[
            define_asset_job(
                keys.INGEST,
                AssetSelection.groups(keys.TOPICS),
                description="Ingest the landing files of every topic; files that are in the log already are skipped.",
            ),
            *recount_checks.jobs(found),
            *drift_checks.jobs(found),
            *retention.jobs(),
        ],
        schedules=[*recount_checks.schedules(found), *drift_checks.schedules(found), *retention.schedules()],
        sensors=[*landing.sensors(found)],
        executor=in_process_executor,  # a process per step costs 12 s on a small machine and isolates nothing here
    )


defs = build(declared.load(settings().catalog))
