"""Numbered migrations of the ledger, applied in order, each once, under one advisory lock."""

from __future__ import annotations

import re
from importlib import resources

from headrace.errors import Terminal
from ledger.connection import Connection, connect

_NUMBERED = re.compile(r"(\d{4})_\w+\.sql")
_LOCK = 0x48454144  # any constant that only the migrations use


def available() -> list[tuple[int, str, str]]:
    """Number, file name and SQL text of every migration, in order."""
    found = [
        (int(match[1]), entry.name, entry.read_text())
        for entry in resources.files(__name__).iterdir()
        if (match := _NUMBERED.fullmatch(entry.name))
    ]
    return sorted(found)


def missing(db: Connection) -> list[str]:
    """Names of the migrations that the ledger has not had yet."""
    row = db.execute("select to_regclass('public.headrace_migrations') is not null").fetchone()
    applied = (
        {row[0] for row in db.execute("select number from public.headrace_migrations")} if row and row[0] else set()
    )
    return [name for number, name, _ in available() if number not in applied]


def migrate(postgres_url: str) -> list[str]:
    """Bring the ledger up to date; returns the names of the migrations applied now."""
    done: list[str] = []
    with connect(postgres_url) as db, db.transaction():
        db.execute("select pg_advisory_xact_lock(%s)", (_LOCK,))
        db.execute(
            "create table if not exists public.headrace_migrations"
            "(number int primary key, name text not null, applied_at timestamptz not null default now())"
        )
        applied = {row[0] for row in db.execute("select number from public.headrace_migrations")}
        known = available()
        if applied - {number for number, _, _ in known}:
            raise Terminal("the ledger was migrated by a newer Headrace; nothing was changed; update this checkout")
        for number, name, sql in known:
            if number not in applied:
                db.execute(sql.encode())
                db.execute("insert into public.headrace_migrations(number, name) values (%s, %s)", (number, name))
                done.append(name)
    return done
