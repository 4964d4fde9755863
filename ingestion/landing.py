"""Landing files: found, identified by their content, and read as batches of encoded records."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from headrace.errors import UsageError
from headrace.transactions import Header
from ingestion.batch import Batch
from ingestion.csv_rows import CsvRows
from ingestion.errors import FileError
from ingestion.event_time import EventTimes
from ingestion.json_rows import JsonRows
from ingestion.lines import LineFile, Offsets
from ingestion.rows import RowReader
from schemas.avro import AvroSchema
from schemas.formats import encoder
from topology import FileSource

_Stamp = tuple[int, int, int, int]


def find(source: FileSource, landing: Path) -> list[Path]:
    """The source's files in the landing folder, by name. A folder that fits the path is there too: it is an error."""
    if not landing.is_dir():
        raise UsageError(f"the landing folder {landing} does not exist; make it or set HEADRACE_LANDING")
    return sorted(path for path in landing.glob(source.path) if not path.name.startswith("."))


@dataclass(frozen=True)
class LandingFile:
    """One file of a source, as it was when it was opened: a `Work` whose positions are lines done after the header."""

    path: Path
    name: str
    source: FileSource
    schema: AvroSchema
    schema_id: int
    content_hash: str
    size: int
    stamp: _Stamp = field(repr=False)

    @classmethod
    def open(cls, path: Path, landing: Path, source: FileSource, schema: AvroSchema, schema_id: int) -> LandingFile:
        """Identify the file by the sha256 of its content; raises `FileError` when it cannot be read."""
        name = path.relative_to(landing).as_posix()
        with _opened(path, name) as file:
            stamp = _stamp(os.fstat(file.fileno()))
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        found = cls(path, name, source, schema, schema_id, digest, stamp[0], stamp)
        found.check()
        if not found.size:
            raise FileError(f"{name}: the file is empty; nothing was produced; replace it and run the ingest again")
        return found

    def check(self) -> None:
        """Raise `FileError` when the file is gone or not what it was."""
        try:
            now = _stamp(self.path.stat())
        except OSError as error:
            raise FileError(
                f"{self.name}: the file vanished while it was read ({error.strerror}); what was not committed was not "
                "produced; bring it back and run the ingest again: it goes on where it stopped"
            ) from error
        if now != self.stamp:
            raise FileError(
                f"{self.name}: the file changed while it was read; what was not committed was not produced; files are "
                "written elsewhere and then moved here: bring back the former content to go on where it stopped, and "
                "give new content a file of its own"
            )

    def batches(self, position: int, most: int) -> Iterator[Batch]:
        """See `Work.batches`; `most` counts lines."""
        topic, times = self.source.topic, EventTimes(self.source.topic)
        with _opened(self.path, self.name) as file:
            lines = LineFile(file, self.name)
            reader = self._reader(lines)
            header = lines.consumed
            lines.consume(position)
            writer = encoder(self.source.topic.format)
            while (rows := reader.take(most)) is not None:
                values = writer.encode(self.schema, self.schema_id, rows.frame)
                key = rows.frame.column(topic.key)
                keys = key if pa.types.is_string(key.type) else pc.cast(key, pa.string())
                yield Batch(
                    rows.position - header,
                    rows.next_position - header,
                    keys.to_pylist(),
                    values.to_pylist(),
                    _Headers(("file", self.name.encode()), rows.lines),
                    None,
                    rows.rejected,
                    times.largest(rows.frame),
                    rows.last,
                )

    def _reader(self, lines: LineFile) -> RowReader:
        kind = CsvRows if self.source.format == "csv" else JsonRows
        return kind(lines, self.schema, self.source.columns, self.name)


@dataclass(frozen=True)
class _Headers:
    """Headers of each record, made when they are asked for: a million small lists would keep the collector busy."""

    file: Header
    lines: Offsets

    def __iter__(self) -> Iterator[list[Header]]:
        file = self.file
        return ([file, ("line", b"%d" % line)] for line in self.lines.tolist())


def _opened(path: Path, name: str) -> BufferedReader:
    try:
        return path.open("rb")
    except IsADirectoryError as error:
        raise FileError(f"{name}: this is a folder, not a file; move it out of the landing folder's way") from error
    except OSError as error:
        raise FileError(f"{name}: the file cannot be read ({error.strerror}); nothing was produced") from error


def _stamp(found: os.stat_result) -> _Stamp:
    return found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev
