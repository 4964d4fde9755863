"""The views that people read: as they are in Postgres now, and the follow-on views that Headrace makes of tables."""

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
    """A follow-on view: the table it reads, and the statement that creates it."""

    table: str
    ddl: str


def columns(db: Connection, name: str) -> list[tuple[str, str]] | None:
    """(name, type) of each column of the view (or table) `public.<name>`, in order; None when there is none."""
    rows = db.execute(sql("view_columns"), {"name": name}).fetchall()
    return [(str(column), str(kind)) for column, kind in rows] or None


def follow(db: Connection, tables: Collection[str], declared: Mapping[str, Made]) -> None:
    """Have these follow-on views of these tables, by name, and no others; what is as declared is left alone.

    Call inside a transaction. Raises `Terminal` where something else has a view's name, or depends on a view that is to
    be made anew.
    """
    rows = db.execute(
        "select view_name, table_name, ddl from ledger.views where table_name = any(%s) or view_name = any(%s)",
        (list(tables), list(declared)),
    )
    found = {str(name): Made(str(table), str(ddl)) for name, table, ddl in rows}
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
            "insert into ledger.views (view_name, table_name, ddl) values (%s, %s, %s)", (name, made.table, made.ddl)
        )


def drop_of(db: Connection, table: str) -> None:
    """Drop the follow-on views of a table; inside a transaction."""
    for (name,) in db.execute("select view_name from ledger.views where table_name = %s", (table,)).fetchall():
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
