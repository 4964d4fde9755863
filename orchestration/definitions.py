"""The graph: landing files -> topics -> tables, their checks, and what switches and watches the workers. Only wiring.

Loading needs no service and must stay under a second beyond `import dagster`: drivers and pandas are imported by the
functions that run, never here.
"""

from __future__ import annotations

from dagster import AssetSelection, Definitions, define_asset_job, in_process_executor

from assets import catalog as declared
from headrace.settings import settings
from orchestration import (
    checks,
    code,
    derived,
    drift_checks,
    emitted,
    files,
    fleet,
    joins,
    keys,
    lake_compaction,
    lakes,
    landing,
    quality,
    recount_checks,
    retention,
    switches,
    tables,
    topics,
    views,
)
from topology import Derived, FileSource, Join, Topic, View
from topology.program import Declared


def build(found: declared.Catalog) -> Definitions:
    """Definitions of everything in the catalog."""

    def place(declaration: Topic | FileSource | Declared | View | Join) -> code.Place:
        return code.place(found.file(declaration), declaration.name)

    programs = [(p.name, table) for p in found.pipelines.values() if not p.apart for table in p.tables]
    made = [(table, table.derived) for p in found.pipelines.values() for table in p.tables if table.derived]
    plain = [topic for topic in found.topics.values() if not isinstance(topic, Derived)]
    return Definitions(
        assets=[
            *(files.spec(source, place(source)) for source in found.sources.values()),
            *(topics.asset(topic, found.sources_of(topic), place(topic)) for topic in plain),
            *(derived.asset(table, topic, place(topic)) for table, topic in made),
            *(tables.asset(table, pipeline, place(table.table)) for pipeline, table in programs),
            *(lakes.asset(table, lake, place(lake)) for table in found.archives.values() if (lake := table.archive)),
            *(
                emitted.spec(t, found.tables[t.table], place(found.tables[t.table].table))
                for t in found.emitted.values()
            ),
            *(emitted.alerts(one, table, place(one.alert)) for _, table in programs for one in table.transitions),
            *(views.spec(view, found.tables[view.table], place(view.view)) for view in found.views.values()),
            *(joins.spec(join, place(join.join)) for join in found.joins.values()),
        ],
        asset_checks=[
            *(checks.check(pipeline) for pipeline in found.pipelines.values()),
            *recount_checks.checks(found),
            *drift_checks.checks(found),
            *quality.checks(found),
        ],
        sensors=[
            fleet.sensor(found.pipelines),
            *(switches.sensor(pipeline) for pipeline in found.pipelines.values()),
            *landing.sensors(found),
        ],
        jobs=[
            define_asset_job(
                keys.INGEST,
                AssetSelection.groups(keys.TOPICS) - AssetSelection.all_asset_checks(),
                description="Ingest the landing files of every topic; files that are in the log already are skipped.",
            ),
            *checks.jobs(found.pipelines.values()),
            *recount_checks.jobs(found),
            *drift_checks.jobs(found),
            *quality.jobs(found),
            *retention.jobs(),
            *lake_compaction.jobs(found),
        ],
        schedules=[
            *checks.schedules(found.pipelines.values()),
            *recount_checks.schedules(found),
            *drift_checks.schedules(found),
            *quality.schedules(found),
            *retention.schedules(),
            *lake_compaction.schedules(found),
        ],
        executor=in_process_executor,  # a process per step costs 12 s on a small machine and isolates nothing here
    )


defs = build(declared.load(settings().catalog))
