"""Records that were not applied: the payload once per coordinates, reason and state once per table version."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ledger.connection import Connection
from ledger.sql import sql

INGEST = "ingest"


@dataclass(frozen=True)
class DeadLetter:
    """One refusal, at (topic, partition, offset), or at (topic, file_hash, line) for a line that never reached it."""

    topic: str
    table_version: str
    reason: str
    detail: str = ""
    partition: int | None = None
    offset: int | None = None
    file_hash: str | None = None
    file_name: str | None = None
    line: int | None = None
    payload: bytes | None = None
    key: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    kafka_timestamp: datetime | None = None


def record(db: Connection, letters: Sequence[DeadLetter]) -> None:
    """Write `letters` inside the caller's transaction; a letter that is there already is left as it is."""
    if not letters:
        return
    columns: dict[str, list[object]] = {
        name: [getattr(letter, name) for letter in letters]
        for name in DeadLetter.__dataclass_fields__
        if name not in ("headers", "detail")
    }
    columns["headers"] = [json.dumps(letter.headers).replace("\\u0000", "\\ufffd") for letter in letters]
    columns["detail"] = [letter.detail.replace("\0", "\N{REPLACEMENT CHARACTER}") for letter in letters]
    db.execute(sql("dead_letter_records"), columns)


def new(db: Connection, pipeline: str, topic: str, partition: int, offsets: Sequence[int]) -> set[int]:
    """Of these offsets those that no table of the pipeline has as dead letters yet; before `record`."""
    given = {"pipeline": pipeline, "topic": topic, "partition": partition, "offset": list(offsets)}
    return {int(row[0]) for row in db.execute(sql("dead_letter_new"), given)}
