"""What lakes hold: intents, cuts and files. Readers go through the view of an archive, which lists its files.

A cut is what one commit of an archive's worker brings: [from_offset, to_offset) of a partition. Its intent is committed
before the first file is written, and goes in the transaction that lists the files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date, timedelta

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
class Day:
    """What an archive holds of one day."""

    date: date
    files: int
    rows: int
    bytes: int


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


def days(db: Connection, version: str) -> list[Day]:
    """What readers find, by day."""
    with db.cursor(row_factory=class_row(Day)) as cursor:
        return cursor.execute(
            "select date, count(*)::int as files, sum(rows)::bigint as rows, sum(bytes)::bigint as bytes"
            " from ledger.archive_files where table_version = %s and replaced_at is null group by date order by date",
            (version,),
        ).fetchall()


@contextmanager
def compacting(db: Connection, version: str) -> Iterator[bool]:
    """Be the only one who compacts an archive; False when another does."""
    key = f"headrace.archive.{version}"
    row = db.execute("select pg_try_advisory_lock(hashtextextended(%s, 0))", (key,)).fetchone()
    held = bool(row and row[0])
    try:
        yield held
    finally:
        if held:
            db.execute("select pg_advisory_unlock(hashtextextended(%s, 0))", (key,))


def closed(db: Connection, version: str) -> list[File]:
    """The listed files of closed days, by date, partition and offset."""
    with db.cursor(row_factory=class_row(File)) as cursor:
        return cursor.execute(sql("archive_closed"), {"table_version": version}).fetchall()


def replace(db: Connection, version: str, old: Sequence[File], new: File) -> bool:
    """List one file in place of others, in a transaction of its own; False, and nothing changes, when one is gone."""
    with db.transaction():
        found = db.execute(
            "select file from ledger.archive_files"
            " where table_version = %s and file = any(%s) and replaced_at is null for update",
            (version, [one.file for one in old]),
        ).fetchall()
        if len(found) < len(old):
            return False
        db.execute(
            "update ledger.archive_files set replaced_at = now() where file = any(%s)", ([one.file for one in old],)
        )
        list_files(db, version, [new])
        return True


def replaced(db: Connection, version: str, keep: timedelta) -> list[str]:
    """Files that were replaced longer than `keep` ago."""
    rows = db.execute(
        "select file from ledger.archive_files where table_version = %s and replaced_at <= now() - %s order by file",
        (version, keep),
    )
    return [row[0] for row in rows]


def forget(db: Connection, version: str, file: str) -> None:
    """A replaced file was deleted."""
    db.execute(
        "delete from ledger.archive_files where table_version = %s and file = %s and replaced_at is not null",
        (version, file),
    )


def known(db: Connection, version: str) -> set[str]:
    """Every file of the manifest, replaced ones too."""
    return {row[0] for row in db.execute("select file from ledger.archive_files where table_version = %s", (version,))}


def wrong(db: Connection, version: str) -> list[str]:
    """What does not fit between positions, cuts and files; nothing in a sound ledger."""
    return [row[0] for row in db.execute(sql("archive_wrong"), {"table_version": version})]
