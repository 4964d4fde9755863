"""A table's rows as they are stored: partial rows, one per key, window and shard, before the view adds them up."""

from __future__ import annotations

from topology import windowing
from topology.duck import quoted, text
from topology.program import TableProgram
from topology.window import Count, Session

SHARD = "shard"


def table_key(program: TableProgram) -> tuple[str, ...]:
    """Columns of the view that name one of its rows: the group columns, and the window's start or number."""
    number = ["windowNumber"] if isinstance(program.table.window, Count) else []
    return (*(column.name for column in program.key), *(["windowStart"] if program.windowed else number))


def stored_rows(program: TableProgram) -> str:
    """SELECT of the table's key and the shard of every stored row of the current generation, for Postgres.

    A stored row of a windowed table is a pane or a session, from `windowStart` to `windowEnd`.
    """
    columns = [f"s.{quoted(column.name)}" for column in program.key]
    source = f"FROM {program.state_table} AS s"
    window = program.table.window
    if isinstance(window, Count):
        columns.append('s.window_number AS "windowNumber"')
    elif window is not None:
        columns += ['s.window_start AS "windowStart"', f'{windowing.stored_end(window)} AS "windowEnd"']
        if not isinstance(window, Session):
            source += (
                f" LEFT JOIN ledger.generations AS g ON g.table_version = {text(program.version_id)}"
                " AND g.day = (s.window_start AT TIME ZONE 'UTC')::date WHERE s.gen = coalesce(g.gen, 0)"
            )
    return f"SELECT {', '.join([*columns, f's.{SHARD}'])} {source}"
