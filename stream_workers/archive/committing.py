"""A cut of a partition becomes files, and then rows of the ledger.

1. The intent (from, to) is committed; only the shard's owner can.
2. The files are written, `BUILD/date=DAY/TOPIC-PARTITION-FROM-TO.parquet`: a retry makes the same cut, so that they
   overwrite themselves.
3. One transaction: position (compare-and-set of the epoch), the cut, its files, dead letters, batch index; the intent
   goes.

What dies before 3 is read again by the next owner, up to the same offset.
"""

from __future__ import annotations

from dataclasses import replace

from headrace.failpoint import Failpoints
from ledger import Connection, archive, dead_letters, transaction
from ledger.archive import File
from stream_workers.archive.held import Held
from stream_workers.archive.lake import Lake
from stream_workers.archive.opening import ArchiveShard
from stream_workers.archive.steps import ArchiveStep
from stream_workers.opening import TableState


def commit_cut(db: Connection, failpoints: Failpoints, lake: Lake, state: ArchiveShard, version: str) -> TableState:
    """Make what is held of an archive last, and begin to hold anew; returns the table's state to adopt.

    Raises `Fenced`, `ServiceUnavailable` when the lake does not take a file, or psycopg errors after which it is not
    known whether the transaction committed.
    """
    held, hit = state.held[version], failpoints.hit
    move = held.move
    assert move is not None  # something is held
    files = []
    if held.rows:
        archive.intend(db, move)
        hit(ArchiveStep.INTENDED)
        files = _write(failpoints, lake, state, held, move)
        hit(ArchiveStep.WRITTEN)
    with db.transaction():
        hit(ArchiveStep.BEGUN)
        transaction.advance(db, move)
        hit(ArchiveStep.ADVANCED)
        entry = held.table.index_entry
        if move.to_offset > move.from_offset:  # else the position was only seen at the end of the partition
            archive.add(db, move, held.cut, files)
            hit(ArchiveStep.LISTED)
            dead_letters.record(db, held.letters)
            entry = transaction.index(db, move, (), entry)
        hit(ArchiveStep.INDEXED)
    hit(ArchiveStep.COMMITTED)
    table = replace(
        held.table,
        next_offset=move.to_offset,
        watermark=move.watermark,
        ended=move.ended,
        leader_epoch=move.leader_epoch,
        index_entry=entry,
    )
    state.held[version] = Held(table)
    return table


def _write(
    failpoints: Failpoints, lake: Lake, state: ArchiveShard, held: Held, move: transaction.Advance
) -> list[File]:
    files = []
    name = f"{move.topic}-{move.partition}-{move.from_offset}-{move.to_offset}.parquet"
    about = {
        "headrace.archive": move.table_version,
        "headrace.topic": move.topic,
        "headrace.partition": str(move.partition),
        "headrace.offsets": f"{move.from_offset}-{move.to_offset}",
    }
    for day, table in held.files():
        failpoints.hit(ArchiveStep.WRITING)
        written = lake.write(f"{state.folder(move.table_version)}/date={day.isoformat()}/{name}", table, about)
        files.append(
            File(
                file=written.file,
                date=day,
                partition=move.partition,
                from_offset=move.from_offset,
                to_offset=move.to_offset,
                rows=table.num_rows,
                bytes=written.bytes,
                sha256=written.sha256,
            )
        )
    return files
