"""What lakes hold: intents, cuts and files. Readers go through the view of an archive, which lists its files.

A cut is what one commit of an archive's worker brings: [from_offset, to_offset) of a partition. Its intent is committed
before the first file is written, and goes in the transaction that lists the files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date

from psycopg.rows import class_row

from headrace.errors import Fenced
from ledger.connection import Connection
from ledger.sql import sql
from ledger.transaction import Advance

Spans = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class File:
    """A file of a lake; file: a path, or `s3://bucket/key`."""

    file: str
    date: date
    partition: int
    from_offset: int
    to_offset: int
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Cut:
    """Where the offsets of a cut went: rows in files, dead letters, markers, and those that were never delivered."""

    rows: int
    refused: Spans
    control: Spans
    absent: Spans


def intents(db: Connection, versions: Sequence[str], shard: int) -> dict[str, int]:
    """Where the cut ends that was begun and is not listed yet, by table version."""
    rows = db.execute(
        "select table_version, to_offset from ledger.archive_intents where shard = %s and table_version = any(%s)",
        (shard, list(versions)),
    )
    return {row[0]: row[1] for row in rows}


def intend(db: Connection, move: Advance) -> None:
    """Commit the intent of a cut; `Fenced` when another worker owns the shard."""
    if db.execute(sql("archive_intend"), asdict(move)).fetchone() is None:
        raise Fenced(
            f"{move.table_version} shard {move.shard}: another worker archives {move.topic}[{move.partition}]"
            f"@{move.from_offset} (our epoch {move.epoch}); nothing was written"
        )


def add(db: Connection, move: Advance, cut: Cut, files: Sequence[File]) -> None:
    """List a cut with its files, and end its intent. Part of the transaction that advances the position."""
    db.execute("delete from ledger.archive_intents where table_version = %s and shard = %s", _shard(move))
    db.execute(
        "insert into ledger.archive_cuts"
        " (table_version, partition, from_offset, to_offset, rows, refused, control, absent)"
        " values (%s, %s, %s, %s, %s, %s::int8multirange, %s::int8multirange, %s::int8multirange)",
        (
            move.table_version,
            move.partition,
            move.from_offset,
            move.to_offset,
            cut.rows,
            *map(_multirange, (cut.refused, cut.control, cut.absent)),
        ),
    )
    list_files(db, move.table_version, files)


def list_files(db: Connection, version: str, files: Sequence[File]) -> None:
    """Add files to the manifest."""
    with db.cursor() as cursor:
        cursor.executemany(
            "insert into ledger.archive_files"
            " (table_version, file, date, partition, from_offset, to_offset, rows, bytes, sha256)"
            " values (%(version)s, %(file)s, %(date)s, %(partition)s, %(from_offset)s, %(to_offset)s, %(rows)s,"
            " %(bytes)s, %(sha256)s)",
            [{"version": version, **asdict(file)} for file in files],
        )


def files(db: Connection, version: str) -> list[File]:
    """The files that readers go through, by date, partition and offset."""
    with db.cursor(row_factory=class_row(File)) as cursor:
        return cursor.execute(
            "select file, date, partition, from_offset, to_offset, rows, bytes, sha256 from ledger.archive_files"
            " where table_version = %s and replaced_at is null order by date, partition, from_offset",
            (version,),
        ).fetchall()


def _shard(move: Advance) -> tuple[str, int]:
    return move.table_version, move.shard


def _multirange(spans: Spans) -> str:
    return "{" + ",".join(f"[{low},{high})" for low, high in spans) + "}"
