"""Workers that ended by themselves: how often in a row, and when the next one starts. No row: nothing is wrong."""

from __future__ import annotations

from dataclasses import dataclass

from ledger.connection import Connection


@dataclass(frozen=True)
class Restart:
    """Failures in a row of one place for a worker; pause: seconds until the next start, none left: 0."""

    pipeline: str
    slot: int
    failures: int
    pause: float


def known(db: Connection) -> list[Restart]:
    """Every place with failures."""
    rows = db.execute(
        "select pipeline, slot, failures,"
        " greatest(0, extract(epoch from next_start - clock_timestamp()))::float8 from ledger.restarts"
    )
    return [Restart(*row) for row in rows]


def note(db: Connection, pipeline: str, slot: int, failures: int, pause: float, error: str) -> None:
    """Note that a worker ended by itself and when the next one starts."""
    db.execute(
        "insert into ledger.restarts (pipeline, slot, failures, next_start, last_error)"
        " values (%s, %s, %s, clock_timestamp() + make_interval(secs => %s), %s)"
        " on conflict (pipeline, slot) do update set failures = excluded.failures, next_start = excluded.next_start,"
        " last_error = excluded.last_error",
        (pipeline, slot, failures, pause, error),
    )


def forget(db: Connection, pipeline: str, slot: int) -> None:
    """The failures are over: a worker lived long enough, or the pipeline was switched off."""
    db.execute("delete from ledger.restarts where pipeline = %s and slot = %s", (pipeline, slot))
