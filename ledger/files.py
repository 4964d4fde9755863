"""Files (and named sets of records) bound for a topic: the intent before each Kafka transaction, the mirror after it.

Kafka's group offset is the truth about what has been produced; the ledger says what was intended, so that a position in
Kafka that nobody intended shows that one of the two went back in time.
"""

from __future__ import annotations

from dataclasses import dataclass

from psycopg.errors import LockNotAvailable

from headrace.errors import Fenced, ServiceUnavailable
from ledger.connection import Connection


@dataclass(frozen=True)
class FileEntry:
    """A file's row. position: rows done, mirror of Kafka; next_position: rows done once the one in flight commits."""

    content_hash: str
    topic: str
    name: str
    size: int
    transactional_id: str
    group_id: str
    position: int = 0
    next_position: int = 0
    produced: int = 0
    rejected: int = 0
    completed: bool = False


_COLUMNS = (
    "content_hash, topic, name, size, transactional_id, group_id, position, next_position, produced, rejected, "
    "state = 'completed'"
)


class Claimed(ServiceUnavailable):
    """Another process is ingesting the same content."""


def claim(db: Connection, content_hash: str, topic: str, *, seconds: float = 5.0) -> None:
    """Be the only one that writes this file's row, as long as `db` stays open.

    A process that was killed may keep the claim for a moment; `Claimed` when it is held for `seconds`.
    """
    key = f"ingest:{topic}:{content_hash}"
    try:
        with db.transaction():
            db.execute("select set_config('lock_timeout', %s, true)", (f"{int(seconds * 1000)}ms",))
            db.execute("select pg_advisory_lock(hashtextextended(%s, 0))", (key,))  # outlives the transaction
    except LockNotAvailable as error:
        raise Claimed(
            f"another process is ingesting the same content into {topic}; nothing was done; wait for it or stop it"
        ) from error


def find(db: Connection, content_hash: str, topic: str) -> FileEntry | None:
    """The row of a content in a topic."""
    row = db.execute(
        f"select {_COLUMNS} from ledger.files where content_hash = %s and topic = %s", (content_hash, topic)
    ).fetchone()
    return FileEntry(*row) if row else None


def register(db: Connection, entry: FileEntry) -> FileEntry:
    """The row of `entry`'s content, made from `entry` when there is none yet."""
    db.execute(
        "insert into ledger.files (content_hash, topic, name, size, transactional_id, group_id) "
        "values (%s, %s, %s, %s, %s, %s) on conflict do nothing",
        (entry.content_hash, entry.topic, entry.name, entry.size, entry.transactional_id, entry.group_id),
    )
    found = find(db, entry.content_hash, entry.topic)
    assert found is not None
    return found


def intend(db: Connection, entry: FileEntry, next_position: int) -> None:
    """Note, before the Kafka transaction, that it takes the file from `entry.position` to `next_position`."""
    done = db.execute(
        "update ledger.files set next_position = %s "
        "where content_hash = %s and topic = %s and position = %s and state = 'started'",
        (next_position, entry.content_hash, entry.topic, entry.position),
    )
    _one(done.rowcount, entry)


def advance(db: Connection, entry: FileEntry, next_position: int, produced: int, rejected: int) -> None:
    """Mirror a committed Kafka transaction, in the caller's transaction together with its rejected lines."""
    done = db.execute(
        "update ledger.files set position = next_position, produced = produced + %s, rejected = rejected + %s "
        "where content_hash = %s and topic = %s and position = %s and next_position = %s and state = 'started'",
        (produced, rejected, entry.content_hash, entry.topic, entry.position, next_position),
    )
    _one(done.rowcount, entry)


def complete(db: Connection, entry: FileEntry) -> None:
    """The file is in the topic from its first to its last row; it is never produced again."""
    done = db.execute(
        "update ledger.files set state = 'completed', completed_at = now() "
        "where content_hash = %s and topic = %s and position = next_position and state = 'started'",
        (entry.content_hash, entry.topic),
    )
    _one(done.rowcount, entry)


def _one(rows: int, entry: FileEntry) -> None:
    if rows != 1:
        raise Fenced(
            f"{entry.name}: somebody else changed its row in ledger.files; nothing was written; run the ingest again"
        )
