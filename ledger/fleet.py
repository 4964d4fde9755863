"""The fleet: the one Dagster instance whose sensor toggles are the pipelines' switches, and its last tick.

Ownership does not run out: another instance (a throw-away `dagster dev`, a second checkout) has toggles of its own, and
taking over by itself it would switch on what somebody switched off. A person releases it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ledger.connection import Connection

LEASE = "fleet"  # held for the length of one tick, so that two daemons of one instance never report twice


@dataclass(frozen=True)
class Fleet:
    """The owner and when its fleet sensor last ticked."""

    instance: str
    ticked_at: datetime


def owner(db: Connection) -> Fleet | None:
    """Who owns the fleet, None before the first tick and after a release."""
    row = db.execute("select instance, ticked_at from ledger.fleet").fetchone()
    return Fleet(*row) if row else None


def tick(db: Connection, instance: str, now: datetime) -> bool:
    """Note a tick of `instance`, which owns the fleet from its first one on; False when another instance owns it."""
    done = db.execute(
        "insert into ledger.fleet as f (instance, ticked_at) values (%s, %s)"
        " on conflict (one) do update set ticked_at = excluded.ticked_at where f.instance = excluded.instance",
        (instance, now),
    )
    return done.rowcount == 1


def release(db: Connection) -> Fleet | None:
    """Forget the owner: the next instance that ticks owns the fleet. Returns who it was."""
    row = db.execute("delete from ledger.fleet returning instance, ticked_at").fetchone()
    return Fleet(*row) if row else None
