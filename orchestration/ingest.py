"""What a run of a topic's asset does. Imported by the run only: drivers are heavy, and loading definitions is not."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition
from dagster import AssetMaterialization, DagsterLogManager, Failure, MaterializeResult, MetadataValue, RetryRequested

from headrace.errors import HeadraceError, Transient
from headrace.settings import Settings, load
from ingestion.delivery import FileReport, Progress
from ingestion.ingest import IngestFailed, ingest, prepare
from ingestion.landing import find
from ledger import connection
from ledger.migrations import migrate
from orchestration import keys
from topology import FileSource, Topic

Tell = Callable[[AssetMaterialization], None]

_LINE_EVERY = 1.0  # seconds; each line is an event of about a kilobyte in Dagster's storage
_PAUSES = (60.0, 120.0, 240.0, 480.0)  # seconds between attempts of a run that nobody watches
_REJECTED = """
select d.reason, count(*) from ledger.dead_letters d join ledger.dead_letter_records r using (record_id)
where d.table_version = 'ingest' and r.topic = %s and r.file_hash = any(%s) group by 1 order by 1
"""


def materialize(
    log: DagsterLogManager, topic: Topic, sources: Sequence[FileSource], tell: Tell, *, attempt: int | None = None
) -> MaterializeResult[None]:
    """Provision the topic, ingest its landing files, tell what happened; raises `Failure` with the error's one line.

    tell: is told of each source of which files are new.
    attempt: how often a run that nobody watches (the file sensor's) was tried before. Such a run waits for a service
    that does not answer, a little longer each time: what landed while Kafka was down is ingested when it is back.
    """
    try:
        return _materialize(log, topic, sources, tell, load())
    except HeadraceError as error:
        if attempt is not None and isinstance(error, Transient) and attempt < len(_PAUSES):
            log.warning(f"{error}; trying again in {_PAUSES[attempt]:.0f} s")
            raise RetryRequested(len(_PAUSES), _PAUSES[attempt]) from error
        raise Failure(str(error), allow_retries=False) from error


def _materialize(
    log: DagsterLogManager, topic: Topic, sources: Sequence[FileSource], tell: Tell, settings: Settings
) -> MaterializeResult[None]:
    began = time.monotonic()
    for name in migrate(settings.need_postgres()):
        log.info(f"ledger: applied {name}")
    provided = prepare(settings, [topic])
    log.info(f"provisioned {provided}")
    for line in provided.drift:
        log.warning(line)
    try:
        report = ingest(sources, settings, progress=_teller(log))
    except IngestFailed as failed:
        _landed(sources, failed.report.files, settings, tell)
        raise
    _landed(sources, report.files, settings, tell)
    seconds = time.monotonic() - began
    busy = sum(file.seconds for file in report.files if not file.skipped)
    for file in report.files:
        log.info(_line(file))
    rejected = _rejected(settings, topic, [file.content_hash for file in report.files])
    offsets = ends(settings, topic)
    if isinstance(offsets, str):
        log.warning(f"the ingest is done; the end offsets are left out: {offsets}")
        known = {}
    else:
        known = {"end offsets": MetadataValue.json({str(partition): end for partition, end in offsets.items()})}
    return MaterializeResult(
        metadata={
            "produced": report.new_records,
            "files": len(report.files),
            "files skipped": sum(file.skipped for file in report.files),
            "rows": sum(file.rows for file in report.files),
            "rejected lines": report.rejected,
            "rejected by reason": MetadataValue.json(rejected),
            **known,
            "seconds": seconds,
            "records per second": report.new_records / busy if busy else 0.0,
            "drift": MetadataValue.json(list(provided.drift)),
            "per file": MetadataValue.md(_table(report.files)),
        }
    )


def _landed(sources: Sequence[FileSource], files: Sequence[FileReport], settings: Settings, tell: Tell) -> None:
    """Tell of each source's files that are in the topic since this run."""
    for source in sources:
        own = {path.relative_to(settings.landing).as_posix() for path in find(source, settings.landing)}
        new = [file for file in files if file.name in own and not file.skipped]
        if new:
            tell(
                AssetMaterialization(
                    keys.source_key(source.name),
                    description=f"Ingested into {source.topic.name}.",
                    metadata={
                        "new files": len(new),
                        "rows": sum(file.rows for file in new),
                        "rejected lines": sum(file.rejected for file in new),
                        "per file": MetadataValue.md(_table(new)),
                    },
                )
            )


def _teller(log: DagsterLogManager) -> Callable[[Progress], None]:
    last = 0.0

    def tell(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _LINE_EVERY:
            last = now
            log.info(
                f"{progress.name}: {progress.produced:,} records produced, {progress.rejected:,} lines rejected, "
                f"{progress.rows_per_s:,.0f} rows/s"
            )

    return tell


def _line(file: FileReport) -> str:
    if file.skipped:
        return f"{file.name}: in the log already ({file.produced:,} records), skipped"
    return (
        f"{file.name}: {file.rows:,} rows, {file.produced:,} produced, {file.rejected:,} rejected, {file.seconds:.1f} s"
    )


def _table(files: Sequence[FileReport]) -> str:
    rows = [
        f"| {f.name} | {f.rows:,} | {f.produced:,} | {f.rejected:,} | {_yes(f.skipped)} | {f.seconds:.1f} |"
        for f in files
    ]
    return "\n".join(
        ["| file | rows | produced | rejected | skipped | seconds |", "| --- | --: | --: | --: | --- | --: |", *rows]
    )


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _rejected(settings: Settings, topic: Topic, hashes: list[str]) -> dict[str, int]:
    with connection.connect(settings.need_postgres()) as database:
        found: list[tuple[Any, ...]] = database.execute(_REJECTED, [topic.name, hashes]).fetchall()
    return {str(reason): int(count) for reason, count in found}


def ends(settings: Settings, topic: Topic, seconds: float = 15.0) -> dict[int, int] | str:
    """End offset of each partition; why they cannot be had when Kafka does not give each answer within `seconds`."""
    reader = Consumer({**settings.kafka(group_id="headrace-orchestration"), "log_level": 0})
    try:
        return {
            number: reader.get_watermark_offsets(TopicPartition(topic.name, number), timeout=seconds)[1]
            for number in range(len(reader.list_topics(topic.name, timeout=seconds).topics[topic.name].partitions))
        }
    except KafkaException as error:
        return str(error.args[0].str())
    finally:
        reader.close()
