"""The sensor `landing_files`: what lands in the landing folder is ingested. Looks at the folder and the ledger only."""

# No postponed annotations here: dagster looks at the type of `context`.
import stat
from collections.abc import Mapping, Sequence, Set

from dagster import (
    AssetKey,
    DagsterInstance,
    DefaultSensorStatus,
    RunRequest,
    RunsFilter,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    sensor,
)
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from assets.catalog import Catalog
from headrace.errors import HeadraceError
from headrace.settings import Settings
from headrace.settings import load as load_settings
from orchestration import arrivals, keys
from orchestration.arrivals import Files, Look
from topology import FileSource

NAME = "landing_files"
FILES_TAG = "headrace/landing_files"
_TAG_LENGTH = 200
_NAMED = 3  # names in one line; a folder may hold thousands


def sensors(catalog: Catalog) -> list[SensorDefinition]:
    """The sensor, where the catalog has landing files."""
    sources: dict[str, list[FileSource]] = {}
    for source in catalog.sources.values():
        sources.setdefault(source.topic.name, []).append(source)
    return [_sensor(sources)] if sources else []


def _sensor(sources: Mapping[str, Sequence[FileSource]]) -> SensorDefinition:
    @sensor(
        name=NAME,
        job_name=keys.INGEST,
        minimum_interval_seconds=10,
        default_status=DefaultSensorStatus.RUNNING,
        description="Ingests what lands: a run per topic for files that are unchanged for two looks.",
    )
    def landing_files(context: SensorEvaluationContext) -> SensorResult:
        try:
            return tick(sources, context.instance, context.cursor, load_settings())
        except HeadraceError as error:
            return SensorResult(skip_reason=str(error).splitlines()[0])

    return landing_files


def tick(
    sources: Mapping[str, Sequence[FileSource]], instance: DagsterInstance, cursor: str | None, settings: Settings
) -> SensorResult:
    """One look; raises `HeadraceError` (and changes nothing) without a landing folder or a ledger."""
    found = {topic: listing(own, settings) for topic, own in sources.items()}
    done = completed(list(sources), settings)
    busy = topics_with_runs(instance, list(sources))
    memories = arrivals.load(cursor)
    looks = {
        topic: arrivals.look(memories.get(topic, arrivals.Memory()), files, done.get(topic, set()), busy=topic in busy)
        for topic, files in found.items()
    }
    kept = arrivals.dump({topic: look.memory for topic, look in looks.items()})
    requests = [_request(topic, look, found[topic]) for topic, look in looks.items() if look.request]
    if requests:
        return SensorResult(run_requests=requests, cursor=kept)
    return SensorResult(skip_reason=_why(looks), cursor=kept)


def listing(sources: Sequence[FileSource], settings: Settings) -> Files:
    """The files of a topic's sources as they are now; what vanishes meanwhile is not there."""
    from ingestion.landing import find

    found = {}
    for source in sources:
        for path in find(source, settings.landing):
            try:
                state = path.stat()
            except OSError:
                continue
            if stat.S_ISREG(state.st_mode):
                found[path.relative_to(settings.landing).as_posix()] = (state.st_size, state.st_mtime_ns)
    return found


def completed(topics: Sequence[str], settings: Settings) -> Mapping[str, Set[tuple[str, int]]]:
    """(name, size) of the files that are in each topic from first to last row."""
    from contextlib import closing

    from ledger import files
    from ledger.connection import connect

    with closing(connect(settings.need_postgres(), application="headrace landing files")) as db:
        return files.completed(db, topics)


def topics_with_runs(instance: DagsterInstance, topics: Sequence[str]) -> set[str]:
    """Topics of which a run is queued or under way: one query for the few runs that are not finished."""
    by_key: dict[AssetKey, str] = {keys.topic_key(topic): topic for topic in topics}
    found: set[str] = set()
    for run in instance.get_runs(RunsFilter(statuses=NOT_FINISHED_STATUSES)):
        if run.asset_selection:
            found |= {by_key[key] for key in run.asset_selection if key in by_key}
        elif run.job_name == keys.INGEST:  # the whole job
            found |= set(topics)
    return found


def _request(topic: str, look: Look, found: Files) -> RunRequest:
    files = {name: found[name] for name in look.request}
    return RunRequest(
        run_key=arrivals.run_key(topic, files),
        asset_selection=[keys.topic_key(topic)],
        tags={FILES_TAG: _some(look.request)[:_TAG_LENGTH]},
    )


def _why(looks: Mapping[str, Look]) -> str:
    lines = []
    for topic, look in looks.items():
        if look.left:
            lines.append(
                f"{topic}: {_some(look.left)} not in the topic after the run that was asked for; look at that run, "
                f"then replace the file or materialize kafka/{topic}"
            )
        if look.changing:
            lines.append(f"{topic}: {_some(look.changing)} still changing, or seen for the first time")
        elif look.waiting:
            lines.append(f"{topic}: {_some(look.waiting)} arrived; a run is on its way already")
    return "; ".join(lines) or "no new files"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"
