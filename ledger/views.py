"""The views that people read: as they are in Postgres now, and the follow-on views and joins that Headrace makes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from psycopg import errors
from psycopg import sql as quoting

from headrace.errors import Terminal
from ledger.connection import Connection
from ledger.sql import sql

_LOCK_SECONDS = 5  # a reader that holds a view longer than this must not make all later ones wait behind us


@dataclass(frozen=True)
class Made:
    """A view: the table it reads, the statement that creates it, the tables it reads besides."""

    table: str
    ddl: str
    further: tuple[str, ...] = ()


def columns(db: Connection, name: str) -> list[tuple[str, str]] | None:
    """(name, type) of each column of the view (or table) `public.<name>`, in order; None when there is none."""
    rows = db.execute(sql("view_columns"), {"name": name}).fetchall()
    return [(str(column), str(kind)) for column, kind in rows] or None


def follow(
    db: Connection, tables: Collection[str], declared: Mapping[str, Made], waiting: Collection[str] = ()
) -> None:
    """Have these views of these tables, by name, and no others; what is as declared is left alone.

    waiting: views that cannot be made yet, because a table they read is not there; they are left as they are. Call
    inside a transaction. Raises `Terminal` where something else has a view's name, or depends on a view that is to
    be made anew.
    """
    rows = db.execute(
        "select view_name, table_name, ddl, further_tables from ledger.views"
        " where table_name = any(%(tables)s) or further_tables && %(tables)s or view_name = any(%(names)s)",
        {"tables": list(tables), "names": list(declared)},
    )
    found = {
        str(name): Made(str(table), str(ddl), tuple(further))
        for name, table, ddl, further in rows
        if name not in waiting
    }
    if found == declared:
        return
    db.execute(f"set local lock_timeout = '{_LOCK_SECONDS}s'".encode())
    for name, made in found.items():
        if declared.get(name) != made:
            _drop(db, name)
    for name, made in declared.items():
        if found.get(name) == made:
            continue
        if columns(db, name) is not None:
            raise Terminal(
                f'the view {name} of table {made.table} cannot be made: there is another "{name}" in the schema public;'
                " it was left as it is; drop it, or give the view another name"
            )
        db.execute(made.ddl.encode())
        db.execute(
            "insert into ledger.views (view_name, table_name, ddl, further_tables) values (%s, %s, %s, %s)",
            (name, made.table, made.ddl, list(made.further)),
        )


def drop_of(db: Connection, table: str) -> None:
    """Drop the views that read a table; inside a transaction."""
    rows = db.execute(
        "select view_name from ledger.views where table_name = %(table)s or %(table)s = any(further_tables)",
        {"table": table},
    )
    for (name,) in rows.fetchall():
        _drop(db, name)


def _drop(db: Connection, name: str) -> None:
    try:
        db.execute(quoting.SQL("drop view if exists public.{}").format(quoting.Identifier(name)))
    except errors.DependentObjectsStillExist as error:
        raise Terminal(
            f"the view {name} has to be made anew and {error.diag.message_detail or 'others depend on it'};"
            " nothing was changed; drop what depends on it first"
        ) from error
    db.execute("delete from ledger.views where view_name = %s", (name,))
