"""Ingest landing files: each one exactly once, whatever happens in between."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from headrace.failpoint import Failpoints
from headrace.settings import Settings
from ingestion import landing
from ingestion.delivery import FileReport, OnProgress, deliver
from ingestion.errors import FileError
from ingestion.landing import LandingFile
from ingestion.persistence import persistently
from ingestion.provision import Report, provision
from ingestion.topics import TopicIds, refuse_recreated
from topology import FileSource, Topic

_log = logging.getLogger("ingestion")


@dataclass(frozen=True)
class IngestReport:
    """The files of one call, in the order they were ingested."""

    files: tuple[FileReport, ...]

    @property
    def new_records(self) -> int:
        """Records put into the log by this call, markers not counted."""
        return sum(file.new_records for file in self.files)

    @property
    def produced(self) -> int:
        """Records of these files in the log, by this call or before."""
        return sum(file.produced for file in self.files)

    @property
    def rejected(self) -> int:
        """Lines of these files that cannot become records; each is a dead letter."""
        return sum(file.rejected for file in self.files)


class IngestFailed(FileError):
    """Some files could not be ingested; `report` has the others."""

    def __init__(self, message: str, report: IngestReport) -> None:
        super().__init__(message)
        self.report = report


def prepare(settings: Settings, topics: Sequence[Topic]) -> Report:
    """Provide schemas and topics, unless a topic is gone that the ledger has files of: `TopicRecreated`."""

    def attempt() -> Report:
        refuse_recreated(settings, [topic.name for topic in topics])
        return provision(settings, topics)

    return persistently(attempt, ", ".join(topic.name for topic in topics))


def ingest(
    sources: FileSource | Sequence[FileSource],
    settings: Settings,
    *,
    progress: OnProgress | None = None,
    failpoints: Failpoints | None = None,
) -> IngestReport:
    """Bring every file of the sources into its topic, schema and topic being provided first.

    A file that cannot be ingested as a whole does not keep the others: `IngestFailed` comes at the end. Errors that
    concern more than a file (`TopicRecreated`, `LedgerBehindKafka`, `OffsetError`, `ServiceUnavailable`,
    `SchemaIncompatible`) come at once.
    """
    wanted = [sources] if isinstance(sources, FileSource) else list(sources)
    topics = {source.topic.name: source.topic for source in wanted}
    report = prepare(settings, list(topics.values()))
    ids = TopicIds(settings)
    done: list[FileReport] = []
    failures: list[str] = []
    for source in wanted:
        schema = source.topic.shape
        schema_id = report.schema_ids[source.topic.name]
        for path in landing.find(source, settings.landing):
            try:
                file = LandingFile.open(path, settings.landing, source, schema, schema_id)
                done.append(
                    deliver(file, source.topic.name, settings, progress=progress, failpoints=failpoints, ids=ids)
                )
            except FileError as error:
                _log.error("%s", error)
                failures.append(str(error))
    found = IngestReport(tuple(done))
    if failures:
        more = f" (and {len(failures) - 1} more files; see the log)" if len(failures) > 1 else ""
        raise IngestFailed(f"{failures[0]}{more}; {len(done)} other files are ingested", found)
    return found
