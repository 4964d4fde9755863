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
from ingestion.provision import provision
from schemas import avro
from topology import FileSource

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


def ingest(
    sources: FileSource | Sequence[FileSource],
    settings: Settings,
    *,
    progress: OnProgress | None = None,
    failpoints: Failpoints | None = None,
) -> IngestReport:
    """Bring every file of the sources into its topic, schema and topic being provided first.

    A file that cannot be ingested as a whole does not keep the others: `IngestFailed` comes at the end. Errors that
    concern more than a file (`LedgerBehindKafka`, `OffsetError`, `ServiceUnavailable`, `SchemaIncompatible`) come at
    once.
    """
    wanted = [sources] if isinstance(sources, FileSource) else list(sources)
    report = provision(settings, list({source.topic.name: source.topic for source in wanted}.values()))
    done: list[FileReport] = []
    failures: list[str] = []
    for source in wanted:
        schema = avro.load(source.topic.schema)
        schema_id = report.schema_ids[source.topic.name]
        for path in landing.find(source, settings.landing):
            try:
                file = LandingFile.open(path, settings.landing, source, schema, schema_id)
                done.append(deliver(file, source.topic.name, settings, progress=progress, failpoints=failpoints))
            except FileError as error:
                _log.error("%s", error)
                failures.append(str(error))
    found = IngestReport(tuple(done))
    if failures:
        more = f" (and {len(failures) - 1} more files; see the log)" if len(failures) > 1 else ""
        raise IngestFailed(f"{failures[0]}{more}; {len(done)} other files are ingested", found)
    return found
