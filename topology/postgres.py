"""The Postgres SQL of a table: its state, the staging of partial rows, their merge, and the view people read."""

from __future__ import annotations

from collections.abc import Sequence

from topology import windowing
from topology.duck import quoted, text
from topology.merging import combined, merged
from topology.program import Column, StateColumn
from topology.state import Kept
from topology.window import Count, Hopping, Session, Window

# For statements that look up stored rows: plans are kept while the table grows, and one that reads it whole for each
# staged row would never end.
BY_INDEX = "SET LOCAL enable_seqscan = off"

_INSTANT = ("TIMESTAMP WITH TIME ZONE", "timestamptz")
_WINDOW_START = Column("window_start", *_INSTANT)
NUMBER, RECORDS = Column("windowNumber", "BIGINT", "bigint"), Column("windowRecords", "BIGINT", "bigint")


def numbered(column: Column, value: str) -> str:
    """A value as it is read: moments in microseconds since 1970, dates in days. Python's own end with the year 9999."""
    if column.duck_type == _INSTANT[0]:
        return f"(extract(epoch FROM {value}) * 1000000)::bigint"
    return f"({value} - date '1970-01-01')" if column.duck_type == "DATE" else value


def staged(key: Sequence[Column], states: Sequence[StateColumn], windowed: bool) -> list[Column]:
    """The columns of an aggregate's rows, in order."""
    return [*key, *([_WINDOW_START] if windowed else []), *states]


def state_ddl(state_table: str, key: Sequence[Column], states: Sequence[StateColumn], windowed: bool) -> str:
    """The state table: one row per key, window and generation, and shard, so that a row has one writer.

    fillfactor leaves room for updates in place; vacuum follows the changed rows closely, for they change all the time.
    """
    columns = [f"{quoted(column.name)} {column.pg_type} NOT NULL" for column in key]
    if windowed:
        columns += ["window_start timestamptz NOT NULL", "gen integer NOT NULL"]
    columns.append("shard integer NOT NULL")
    columns += [f"{quoted(column.name)} {column.pg_type}" for column in states]
    columns.append(f"PRIMARY KEY ({', '.join(_primary_key(key, windowed))})")
    return (
        f"CREATE TABLE IF NOT EXISTS {state_table} (\n    {_list(columns)}\n) WITH (fillfactor = 50, "
        "autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0)"
    )


def stage_ddl(stage: str, columns: Sequence[Column]) -> str:
    """The temporary table that COPY fills; emptied by every commit."""
    body = _list([f"{quoted(column.name)} {column.pg_type}" for column in columns])
    return f"CREATE TEMP TABLE IF NOT EXISTS {stage} (\n    {body}\n) ON COMMIT DELETE ROWS"


def copy_sql(stage: str, columns: Sequence[Column]) -> str:
    """COPY of CSV in which texts are quoted, so that an empty text is not a null."""
    return f"COPY {stage} ({', '.join(quoted(column.name) for column in columns)}) FROM STDIN (FORMAT csv)"


def merge_sql(
    state_table: str, stage: str, key: Sequence[Column], states: Sequence[StateColumn], windowed: bool
) -> str:
    """Merge the staged rows into the state of shard `%(shard)s` of the table version `%(version_id)s`.

    Rows go in the primary key's order; a null on either side is "no value yet" and never wipes the other.
    """
    names = [quoted(column.name) for column in key]
    values = [f"s.{name}" for name in names]
    source = f"FROM {stage} AS s"
    if windowed:
        names += ["window_start", "gen"]
        values += ["s.window_start", "coalesce(g.gen, 0)"]
        source += (
            "\nLEFT JOIN ledger.generations AS g\n    ON g.table_version = %(version_id)s "
            "AND g.day = (s.window_start AT TIME ZONE 'UTC')::date"
        )
    updates = [f"{quoted(state.name)} = {merged(state, 't', 'excluded')}" for state in states]
    found = f"UPDATE SET\n    {_list(updates)}" if updates else "NOTHING"
    columns = [*names, "shard", *(quoted(state.name) for state in states)]
    selected = [*values, "%(shard)s::integer", *(f"s.{quoted(state.name)}" for state in states)]
    return (
        f"INSERT INTO {state_table} AS t (\n    {_list(columns)}\n)\n"
        f"SELECT\n    {_list(selected)}\n{source}\n"
        f"ORDER BY {', '.join(value for value in values if value != 'coalesce(g.gen, 0)')}\n"
        f"ON CONFLICT ({', '.join(_primary_key(key, windowed))}) DO {found}"
    )


def window_columns(window: Window | None) -> list[tuple[Column, str]]:
    """The columns of the view that say which window a row is, each over the stored rows `s`."""
    if window is None:
        return []
    if isinstance(window, Count):
        return [(NUMBER, "s.window_number"), (RECORDS, "sum(s.window_records)::bigint")]
    _, start, end = windowing.shown(window)
    return [(Column(name, *_INSTANT), sql) for name, sql in (("windowStart", start), ("windowEnd", end))]


def view_ddl(
    name: str,
    version_id: str,
    state_table: str,
    key: Sequence[Column],
    window: Window | None,
    kept: Sequence[Kept],
) -> str:
    """The view: the shards' partial rows of the current generation, combined and finished."""
    select = view_select(version_id, state_table, key, window, kept)
    return f"CREATE OR REPLACE VIEW public.{quoted(name)} AS\n{select}"


def view_select(
    version_id: str,
    state_table: str,
    key: Sequence[Column],
    window: Window | None,
    kept: Sequence[Kept],
    where: Sequence[str] = (),
    start: str | None = None,
) -> str:
    """The view's rows; where: conditions on the stored rows `s` that are read for them.

    start: of the one overlapping window that is asked for, of whose panes alone its row is put together.
    """
    keys = [f"s.{quoted(column.name)}" for column in key]
    columns, groups, source = list(keys), list(keys), f"FROM {state_table} AS s"
    columns += [f"{sql} AS {quoted(column.name)}" for column, sql in window_columns(window)]
    conditions = list(where)
    if isinstance(window, Count):
        groups.append("s.window_number")
    elif window is not None:
        join, begin, _ = windowing.shown(window)
        if start is not None and isinstance(window, Hopping):
            join = f"\nCROSS JOIN LATERAL (SELECT {start} AS start) AS w"
            conditions += [
                f"s.window_start >= {start}",
                f"s.window_start < {start} + interval '{window.micros} microseconds'",
            ]
        groups.append(begin)
        if not isinstance(window, Session):
            source += (
                f"\nLEFT JOIN ledger.generations AS g\n    ON g.table_version = {text(version_id)} "
                "AND g.day = (s.window_start AT TIME ZONE 'UTC')::date"
                f"{join}"
            )
            conditions.insert(0, "s.gen = coalesce(g.gen, 0)")
    if conditions:
        source += f"\nWHERE {' AND '.join(conditions)}"
    for one in kept:
        states = {role: combined(state.column, "s") for role, state in one.states.items()}
        columns.append(f"{one.finish.format(**states)} AS {quoted(one.view.name)}")
    return f"SELECT\n    {_list(columns)}\n{source}\nGROUP BY {', '.join(groups)}"


def _primary_key(key: Sequence[Column], windowed: bool) -> list[str]:
    return [*(quoted(column.name) for column in key), *(["window_start", "gen"] if windowed else []), "shard"]


def _list(columns: Sequence[str]) -> str:
    return ",\n    ".join(columns)
