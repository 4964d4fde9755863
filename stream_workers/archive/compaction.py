"""Compaction: the many small files of closed days become few, and readers find the old ones or the new one.

1. The files of one day and partition are read, each compared with its SHA-256, and written as one.
2. One transaction lists the new file and marks the old ones as replaced.
3. Replaced files stay for readers that found them in the manifest a moment ago, then they are deleted, and so is what
   no manifest names and nobody is writing.

What dies before 2 leaves a file that no reader finds. A record that comes later for a closed day is in a file of its
own, until the next compaction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from itertools import groupby

import pyarrow as pa
import pyarrow.parquet as parquet

from headrace.errors import Terminal
from headrace.failpoint import Failpoints
from ledger import Connection, archive
from ledger.archive import File
from stream_workers.archive.lake import ROW_GROUP, Lake, content_of

TARGET_BYTES = 128_000_000  # of one file: compaction holds it in memory, and a query engine reads it in a second or two
KEEP_REPLACED = timedelta(hours=1)  # longer than any query that began with the old manifest should take
KEEP_STRAY = timedelta(days=1)  # much longer than a cut takes between its first file and its commit


class CompactStep(Enum):
    """Places in the order a compaction passes them, for each file it makes and each it deletes."""

    READ = "compact_read"
    WRITTEN = "compact_written"
    REPLACED = "compact_replaced"
    DELETED = "compact_deleted"


class FileDamaged(Terminal):
    """A file of a lake is not what was written; restore it from a copy, or archive anew with `headrace pipeline
    rebuild`."""


@dataclass(frozen=True)
class Compacted:
    """What a compaction did. busy: another one was at it, nothing was done."""

    made: int = 0
    replaced: int = 0
    deleted: int = 0
    busy: bool = False


def compact(
    db: Connection,
    failpoints: Failpoints,
    lake: Lake,
    version: str,
    now: datetime,
    *,
    target_bytes: int = TARGET_BYTES,
    keep: timedelta = KEEP_REPLACED,
) -> Compacted:
    """Compact the closed days of an archive and delete what is no longer needed.

    Raises `FileDamaged`, or `ServiceUnavailable` when the lake does not answer; what was done until then stays.
    """
    with archive.compacting(db, version) as ours:
        if not ours:
            return Compacted(busy=True)
        made = replaced = 0
        for group in _groups(archive.closed(db, version), lake, target_bytes):
            new = _merge(failpoints, lake, version, group)
            failpoints.hit(CompactStep.WRITTEN)
            if archive.replace(db, version, group, new):
                failpoints.hit(CompactStep.REPLACED)
                made, replaced = made + 1, replaced + len(group)
        return Compacted(made, replaced, _sweep(db, failpoints, lake, version, now, keep))


def strays(db: Connection, lake: Lake, version: str, now: datetime) -> list[str]:
    """Files beside those of the manifest that no cut in progress can be writing."""
    known = archive.known(db, version)
    builds = {path.partition("/")[0] for file in known if (path := lake.path(file))}
    found = [one for build in sorted(builds) for one in lake.found(build)]
    return [one.file for one in found if one.file not in known and one.changed_at < now - KEEP_STRAY]


def content(lake: Lake, file: File) -> bytes:
    """What is in a listed file; raises `FileDamaged` when it is not what was written."""
    read = lake.read(file.file)
    if hashlib.sha256(read).hexdigest() != file.sha256:
        raise FileDamaged(
            f"{file.file} has {len(read)} bytes that are not the {file.bytes} that were written; nothing was changed;"
            " restore it from a copy, or archive the topic anew: `headrace pipeline rebuild`"
        )
    return read


def _groups(files: list[File], lake: Lake, target_bytes: int) -> Iterator[list[File]]:
    """Neighbours of one day, partition and folder that fit into one file."""

    def place(file: File) -> tuple[str, int]:
        return file.file.rpartition("/")[0], file.partition

    for _, found in groupby((file for file in files if lake.path(file.file)), key=place):
        group: list[File] = []
        for file in found:
            if group and sum(one.bytes for one in group) + file.bytes > target_bytes:
                if len(group) > 1:
                    yield group
                group = []
            group.append(file)
        if len(group) > 1:
            yield group


def _merge(failpoints: Failpoints, lake: Lake, version: str, group: list[File]) -> File:
    """One file with the rows of a group, in their order."""
    tables = [parquet.read_table(pa.BufferReader(content(lake, file))) for file in group]
    failpoints.hit(CompactStep.READ)
    schema = pa.unify_schemas([table.schema.remove_metadata() for table in tables], promote_options="permissive")
    first, last = group[0], group[-1]
    folder, _, name = first.file.rpartition("/")
    topic = name.removesuffix(f"-{first.partition}-{first.from_offset}-{first.to_offset}.parquet")
    about = {
        "headrace.archive": version,
        "headrace.topic": topic,
        "headrace.partition": str(first.partition),
        "headrace.offsets": f"{first.from_offset}-{last.to_offset}",
    }
    path = lake.path(f"{folder}/{topic}-{first.partition}-{first.from_offset}-{last.to_offset}.parquet")
    assert path is not None  # only files below the lake's address are in groups
    rows = sum(file.rows for file in group)
    written = lake.put(path, content_of(_parts(tables, schema), schema, about))
    return File(
        written.file,
        first.date,
        first.partition,
        first.from_offset,
        last.to_offset,
        rows,
        written.bytes,
        written.sha256,
    )


def _parts(tables: list[pa.Table], schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows in portions of a row group at least, with every column: those a file lacks are null."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(pa.concat_tables([schema.empty_table(), table], promote_options="permissive").select(schema.names))
        if sum(one.num_rows for one in held) >= ROW_GROUP:
            yield pa.concat_tables(held)
            held = []
    if held:
        yield pa.concat_tables(held)


def _sweep(db: Connection, failpoints: Failpoints, lake: Lake, version: str, now: datetime, keep: timedelta) -> int:
    deleted = 0
    for file in archive.replaced(db, version, keep):
        if lake.path(file):
            lake.delete(file)
            failpoints.hit(CompactStep.DELETED)
            archive.forget(db, version, file)
            deleted += 1
    for file in strays(db, lake, version, now):
        lake.delete(file)
        deleted += 1
    return deleted
