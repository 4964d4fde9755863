"""The views that people read, as they are in Postgres now."""

from __future__ import annotations

from ledger.connection import Connection
from ledger.sql import sql


def columns(db: Connection, name: str) -> list[tuple[str, str]] | None:
    """(name, type) of each column of the view (or table) `public.<name>`, in order; None when there is none."""
    rows = db.execute(sql("view_columns"), {"name": name}).fetchall()
    return [(str(column), str(kind)) for column, kind in rows] or None
