"""Files (and named sets of records) bound for a topic: the intent before each Kafka transaction, the mirror after it.

Kafka's group offset is the truth about what has been produced; the ledger says what was intended, so that a position in
Kafka that nobody intended shows that one of the two went back in time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import OperationalError
from psycopg.errors import LockNotAvailable

from headrace.errors import Fenced, ServiceUnavailable
from ledger.connection import Connection


@dataclass(frozen=True)
class FileEntry:
    """A file's row. position: rows done, mirror of Kafka; next_position: rows done once the one in flight commits.

    topic_id: Kafka's id of the topic that has the rows. stale: the last intent (or, without any, the row) is so old
    that Kafka may have forgotten whether it was carried out.
    """

    content_hash: str
    topic: str
    name: str
    size: int
    transactional_id: str
    group_id: str
    topic_id: str
    position: int = 0
    next_position: int = 0
    produced: int = 0
    rejected: int = 0
    completed: bool = False
    stale: bool = False


# Kafka keeps the offsets of an idle group for seven days unless it is told otherwise; a day leaves room for that.
_COLUMNS = (
    "content_hash, topic, name, size, transactional_id, group_id, coalesce(topic_id, ''), position, next_position, "
    "produced, rejected, state = 'completed', coalesce(intended_at, started_at) < now() - interval '1 day'"
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


def of_topic(db: Connection, topic: str) -> list[FileEntry]:
    """Every row of a topic, in the order they were begun."""
    rows = db.execute(f"select {_COLUMNS} from ledger.files where topic = %s order by started_at, name", (topic,))
    return [FileEntry(*row) for row in rows.fetchall()]


def completed(db: Connection, topics: Sequence[str]) -> dict[str, set[tuple[str, int]]]:
    """(name, size) of the completed files of each topic; none in a database without the ledger's tables yet."""
    try:
        exists = db.execute("select to_regclass('ledger.files') is not null").fetchone()
        if not exists or not exists[0]:
            return {}
        rows = db.execute(
            "select topic, name, size from ledger.files where topic = any(%s) and state = 'completed'", (list(topics),)
        ).fetchall()
    except OperationalError as error:
        why = str(error).strip().splitlines()[0]
        raise ServiceUnavailable(f"Postgres does not answer: {why}; run `headrace doctor`") from error
    found: dict[str, set[tuple[str, int]]] = {}
    for topic, name, size in rows:
        found.setdefault(topic, set()).add((name, size))
    return found


def topics(db: Connection) -> list[str]:
    """Names of the topics that have rows."""
    return [str(name) for (name,) in db.execute("select distinct topic from ledger.files order by 1").fetchall()]


def adopt(db: Connection, topic: str, topic_id: str) -> None:
    """Give rows from before the ledger kept topic ids the id of the topic as it is now."""
    db.execute("update ledger.files set topic_id = %s where topic = %s and topic_id is null", (topic_id, topic))


def others(db: Connection, topic: str, topic_id: str | None) -> int:
    """How many rows of `topic` belong to a topic with another id; None: all of them, there is no such topic."""
    row = db.execute(
        "select count(*) from ledger.files where topic = %s and topic_id is distinct from %s", (topic, topic_id)
    ).fetchone()
    return int(row[0]) if row else 0


def shared(db: Connection, entry: FileEntry) -> bool:
    """Whether the same content has a row in another topic: both use the same group."""
    found = db.execute(
        "select 1 from ledger.files where group_id = %s and topic <> %s limit 1", (entry.group_id, entry.topic)
    )
    return found.fetchone() is not None


def forget(db: Connection, topic: str) -> int:
    """Delete every row of a topic; how many there were."""
    return db.execute("delete from ledger.files where topic = %s", (topic,)).rowcount


def register(db: Connection, entry: FileEntry) -> FileEntry:
    """The row of `entry`'s content, made from `entry` when there is none yet."""
    db.execute(
        "insert into ledger.files (content_hash, topic, name, size, transactional_id, group_id, topic_id) "
        "values (%s, %s, %s, %s, %s, %s, %s) on conflict do nothing",
        (
            entry.content_hash,
            entry.topic,
            entry.name,
            entry.size,
            entry.transactional_id,
            entry.group_id,
            entry.topic_id,
        ),
    )
    found = find(db, entry.content_hash, entry.topic)
    assert found is not None
    return found


def intend(db: Connection, entry: FileEntry, next_position: int) -> None:
    """Note, before the Kafka transaction, that it takes the file from `entry.position` to `next_position`."""
    done = db.execute(
        "update ledger.files set next_position = %s, intended_at = now() "
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
