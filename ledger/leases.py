"""Leases: who is expected to do a piece of work. Liveness only; safety is the epoch's compare-and-set."""

from __future__ import annotations

from collections.abc import Sequence

from ledger.connection import Connection
from ledger.sql import sql


def take(db: Connection, name: str, holder: str, seconds: float) -> bool:
    """Take or keep the lease `name` for `seconds`; False when somebody else holds it."""
    return db.execute(sql("lease_take"), {"name": name, "holder": holder, "seconds": seconds}).fetchone() is not None


def renew(db: Connection, names: Sequence[str], holder: str, seconds: float) -> set[str]:
    """Prolong leases; returns those still held."""
    given = {"names": list(names), "holder": holder, "seconds": seconds}
    return {row[0] for row in db.execute(sql("lease_renew"), given)}


def release(db: Connection, names: Sequence[str], holder: str) -> None:
    """Give leases back at once."""
    db.execute(sql("lease_release"), {"names": list(names), "holder": holder})


def free(db: Connection, names: Sequence[str]) -> list[str]:
    """Those of `names` that nobody holds."""
    return [row[0] for row in db.execute(sql("lease_free"), {"names": list(names)})]
