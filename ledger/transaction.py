"""The one transaction of a batch: positions first, then rows, dead letters and batch index.

Steps, in this order for every table version of the shard (sorted by name):
1. `advance`: lock and compare epoch and position; `Fenced` when another worker owns the shard.
2. the caller applies its rows.
3. `index`: days and event times that the batch touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from headrace.errors import Fenced
from ledger.connection import Connection
from ledger.sql import sql

_ENTRY_RECORDS = 100_000  # engine rule E2: one entry per 100 K records or minute
_ENTRY_SECONDS = 60.0


@dataclass(frozen=True)
class Advance:
    """How one table version moves over one batch, and the fate of each of its records (engine rule B10)."""

    table_version: str
    shard: int
    epoch: int
    topic: str
    partition: int
    from_offset: int
    to_offset: int
    leader_epoch: int
    consumed: int
    applied: int
    dead_lettered: int
    filtered: int
    control: int
    late_applied: int
    watermark_before: int | None
    watermark: int | None
    ended: int | None
    min_event: int | None
    max_event: int | None
    level: bool
    late: int = 0
    duplicate: int = 0
    skipped: bytes | None = None  # see ledger.skipped

    @property
    def gaps(self) -> int:
        """Offsets of the batch that Kafka never delivered."""
        return self.to_offset - self.from_offset - self.consumed


def advance(db: Connection, move: Advance) -> None:
    """Compare-and-set of epoch and position; `Fenced` when either is not what the worker believes."""
    found = db.execute(sql("position_advance"), {**asdict(move), "gaps": move.gaps}).fetchone()
    if found is None:
        raise Fenced(
            f"{move.table_version} shard {move.shard}: another worker owns {move.topic}[{move.partition}]"
            f"@{move.from_offset} (our epoch {move.epoch}); nothing was written"
        )


def index(
    db: Connection, move: Advance, days: Sequence[int], entry: int | None, lookup_vector: str | None = None
) -> int | None:
    """Extend the batch index entry that begins at `entry`, or open a new one.

    lookup_vector: where the records were looked up in other tables, how far these were (see `ledger.lookups`).
    Returns the first offset of the entry that the next batch may extend, None when it is full.
    """
    given = {**asdict(move), "days": list(days), "entry": entry, "lookup_vector": lookup_vector}
    if entry is not None:
        grown = db.execute(sql("batch_index_extend"), given).fetchone()
        if grown is not None:
            return entry if grown[0] < _ENTRY_RECORDS and grown[1] < _ENTRY_SECONDS else None
    db.execute(sql("batch_index_open"), given)
    return move.from_offset if move.consumed < _ENTRY_RECORDS else None
