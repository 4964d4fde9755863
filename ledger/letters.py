"""Dead letters found again: by number, reason, table, topic and time, each with what was decided on it so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Literal

from ledger.connection import Connection
from ledger.sql import sql

Standing = Literal["open", "waiting", "refused", "replayed", "dropped"]
STANDINGS: tuple[Standing, ...] = ("open", "waiting", "refused", "replayed", "dropped")
Made = Literal["table", "derived", "archive", "line", "gone"]


@dataclass(frozen=True)
class Choice:
    """Which dead letters; None: any. table: its name, or `ingest` for lines of files. since, until: of recording."""

    ids: Sequence[int] | None = None
    reason: str | None = None
    table: str | None = None
    topic: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    partitions: Sequence[int] | None = None
    standings: Sequence[Standing] | None = None


@dataclass(frozen=True)
class Letter:
    """A record, or a line of a file, that one table version refused.

    standing: `open`; `waiting` for the owner of its shard to decide a replay; `refused` again, refusal says why;
    `replayed`; `dropped`. made: a replay reaches rows of a `table` and the records of a `derived` topic; `archive`s and
    `line`s of files take none, and a table that is `gone` has no position. said_by, said_at, note: of the last word
    on it.
    """

    record_id: int
    table_version: str
    topic: str
    partition: int | None
    offset: int | None
    file_name: str | None
    line: int | None
    reason: str
    detail: str
    standing: Standing
    made: Made
    pipeline: str | None
    recorded_at: datetime
    said_by: str | None
    said_at: datetime | None
    note: str | None
    refusal: str | None

    @property
    def table(self) -> str:
        """Name of the table, `ingest` for a line of a file."""
        return self.table_version.partition("@")[0]

    @property
    def place(self) -> str:
        """Where the record or the line stands."""
        if self.partition is not None:
            return f"{self.topic}[{self.partition}]@{self.offset}"
        return f"{self.file_name}:{self.line}"


@dataclass(frozen=True)
class Count:
    """Records with a reason: all of them, and those that some table has as open, replayed, dropped."""

    line: bool
    reason: str
    records: int
    open: int
    replayed: int
    dropped: int


def find(db: Connection, choice: Choice, limit: int | None = None) -> list[Letter]:
    """The newest first, at most `limit`."""
    given = {**asdict(choice), "limit": limit}
    for name in ("ids", "partitions", "standings"):
        given[name] = None if given[name] is None else list(given[name])
    return [Letter(*row) for row in db.execute(sql("letters_found"), given)]


def counted(db: Connection) -> list[Count]:
    """All dead letters by reason, lines of files last."""
    return [Count(*row) for row in db.execute(sql("letters_counted"))]


def payload(db: Connection, record_id: int) -> tuple[str, bytes | None] | None:
    """Topic and bytes of a record or line; None where there is no such dead letter."""
    row = db.execute("select topic, payload from ledger.dead_letter_records where record_id = %s", (record_id,))
    found = row.fetchone()
    return (str(found[0]), found[1]) if found else None
