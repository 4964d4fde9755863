"""The mirror of what Kafka holds of a derived topic: where it stands and what it counted, by partition."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg.rows import class_row

from ledger.connection import Connection


@dataclass(frozen=True)
class Mirror:
    """One partition of the source, which is one shard. Times in microseconds."""

    partition: int
    topic_id: str
    first_offset: int
    next_offset: int
    consumed: int
    applied: int
    filtered: int
    dead_lettered: int
    control: int
    gaps: int
    watermark: int | None
    ended: int | None
    correction_seq: int

    @property
    def counts(self) -> tuple[int, ...]:
        """consumed, applied, filtered, dead_lettered, control, gaps."""
        return self.consumed, self.applied, self.filtered, self.dead_lettered, self.control, self.gaps


def mirrors(db: Connection, table_version: str) -> list[Mirror]:
    """Every partition of a version, in order."""
    with db.cursor(row_factory=class_row(Mirror)) as cursor:
        return cursor.execute(
            "select partition, topic_id, first_offset, next_offset, consumed, applied, filtered, dead_lettered,"
            " control, gaps, watermark, ended, correction_seq from ledger.positions where table_version = %s"
            " order by partition",
            (table_version,),
        ).fetchall()
