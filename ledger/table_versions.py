"""Table versions: which definition of a table lives, and forgetting it to build it anew."""

from __future__ import annotations

from collections.abc import Mapping

from psycopg import sql as quoting

from ledger import views
from ledger.connection import Connection
from ledger.sql import sql

_LOCK = 0x48454154


def lock(db: Connection) -> None:
    """Let nobody else make or drop tables and views until the transaction ends: a view may read several pipelines'."""
    db.execute("select pg_advisory_xact_lock(%s)", (_LOCK,))


def live(db: Connection, table_name: str) -> str | None:
    """The live version of a table, None before its first worker."""
    row = db.execute(
        "select table_version from ledger.table_versions where table_name = %s and role = 'live'", (table_name,)
    ).fetchone()
    return str(row[0]) if row else None


def add(db: Connection, version: Mapping[str, str]) -> None:
    """Add a version: table_version, table_name, pipeline, state_table and definition (JSON text)."""
    db.execute(sql("table_version_add"), version)


def drop(db: Connection, pipeline: str) -> list[str]:
    """Drop views, state tables, positions and dead letters of a pipeline's tables, in one transaction.

    Corrections stay: they belong to the log's records, and the tables decide them again when they are built anew.
    Deleting the shards waits for a commit in flight, and fences every later one of a running worker: its row is gone.
    """
    with db.transaction():
        lock(db)
        found = db.execute(
            "select table_version, table_name, state_table from ledger.table_versions"
            " where pipeline = %s order by table_version",
            (pipeline,),
        ).fetchall()
        for version, name, state_table in found:
            db.execute("delete from ledger.shards where table_version = %s", (version,))
            # Its closer too: what is in the outbox after that, nobody can add to any more.
            db.execute("delete from ledger.closings where table_version = %s", (version,))
            db.execute("delete from ledger.outbox where writer = %s", (version,))
            for table in ("batch_index", "dead_letters"):
                db.execute(
                    quoting.SQL("delete from ledger.{} where table_version = %s").format(quoting.Identifier(table)),
                    (version,),
                )
            if not state_table:  # of a topic or a lake, which have the rows; a lake's view lists its files
                db.execute(quoting.SQL("drop view if exists public.{}").format(quoting.Identifier(name)))
                db.execute("delete from ledger.table_versions where table_version = %s", (version,))
                continue
            views.drop_of(db, name)
            schema, _, bare = state_table.replace('"', "").partition(".")
            db.execute(quoting.SQL("drop view if exists public.{}").format(quoting.Identifier(name)))
            made = db.execute(
                "select tablename from pg_tables where schemaname = %s and (tablename = %s or tablename like %s)",
                (schema, bare, bare.replace("_", "\\_") + "\\_\\_%"),
            ).fetchall()
            for (name_of_part,) in made:
                db.execute(quoting.SQL("drop table if exists {}").format(quoting.Identifier(schema, name_of_part)))
            db.execute("delete from ledger.table_versions where table_version = %s", (version,))
        db.execute(
            "with gone as (delete from ledger.outboxes where pipeline = %s returning writer)"
            " delete from ledger.outbox where writer in (select writer from gone)",
            (pipeline,),
        )
        db.execute(
            "delete from ledger.dead_letter_records r"
            " where not exists (select from ledger.dead_letters d where d.record_id = r.record_id)"
        )
    return [row[0] for row in found]


def born(db: Connection, pipeline: str) -> str:
    """When the first of the pipeline's versions was registered, in the form of `shards.Claim.born`; empty for none."""
    row = db.execute(
        "select min(created_at)::text from ledger.table_versions where pipeline = %s", (pipeline,)
    ).fetchone()
    return (row[0] if row else None) or ""


def positions(db: Connection, pipeline: str, topic: str) -> dict[int, int]:
    """The furthest offset of the pipeline's tables by partition."""
    rows = db.execute(
        "select p.partition, max(p.next_offset)"
        " from ledger.positions p join ledger.table_versions v using (table_version)"
        " where v.pipeline = %s and p.topic = %s group by 1 order by 1",
        (pipeline, topic),
    )
    return {row[0]: row[1] for row in rows}
