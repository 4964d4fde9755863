"""Final rows of windows of records: a row is final when it is full, by offset alone (engine rule C4).

The transaction of the batch that fills a window names it in `__late`; nothing changes it after that, and the closer
emits it once. Event times decide nothing; the last one among the records is when the row, as an event, has happened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from topology import postgres, windowing
from topology.duck import quoted
from topology.final_schema import schema_of
from topology.final_sql import (
    DIGEST,
    ID,
    Stored,
    beside,
    full_sql,
    into,
    keep_sql,
    read_sql,
    stage_ddl,
    view_ddl,
)
from topology.program import Column, FinalProgram, StateColumn
from topology.window import Count

END: tuple[StateColumn, str] = (windowing.END, "max(make_timestamptz(r.event_time))")
_SHOWN = Column("windowEnd", windowing.END.duck_type, windowing.END.pg_type)


def noted(state_table: str, key: Sequence[Column], window: Count, merge_sql: str) -> str:
    """The statement that writes windows, and names those that are full by now to the closer."""
    names = [*(quoted(column.name) for column in key), "window_number"]
    listed = ", ".join(names)
    return (
        f"WITH m AS (\n{merge_sql}\nRETURNING {', '.join(f't.{name}' for name in names)}, t.window_records\n)\n"
        f"INSERT INTO {beside(state_table, 'late')} ({listed})\n"
        f"SELECT {listed} FROM m WHERE window_records = {window.records} ORDER BY {listed}"
    )


def program(of: Stored, place: str, at_once: int) -> FinalProgram:
    """How the final rows of a table of windows of records are found and emitted."""
    topic, shown = of.table.final, of
    of = replace(of, columns=_with_end(of))
    late, last = (beside(of.state_table, part) for part in ("late", "last"))
    emitting = f"emit_{of.version}"
    return FinalProgram(
        topic=topic.known(schema_of(topic, of.columns, place)),
        ddl=(
            f"CREATE TABLE IF NOT EXISTS {late} ({ID} bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, {of.row_ddl})",
            f"CREATE TABLE IF NOT EXISTS {last} ({of.row_ddl}, revision integer NOT NULL, {DIGEST} uuid NOT NULL, "
            f"PRIMARY KEY ({', '.join(of.row)}))",
        ),
        late_rows_sql="",
        late_copy_sql="",
        bound_sql="",
        stage_ddl=f"{postgres.BY_INDEX};\n{stage_ddl(emitting, of)}",
        full_sql=full_sql(late, at_once),
        changed_sql=_full_sql(of, late, last, emitting, at_once),
        closed_sql="",
        ended_sql="",
        keep_sql=keep_sql(emitting, of, last),
        read_sql=read_sql(emitting, of),
        view=f"{of.table.name}_final",
        view_ddl=view_ddl(shown, last),
        by_offset=True,
    )


def _with_end(of: Stored) -> tuple[Column, ...]:
    """The view's columns and, after the window's own, when its last record happened, which the view does not show."""
    at = len(of.key) + 2
    return (*of.columns[:at], _SHOWN, *of.columns[at:])


def _full_sql(of: Stored, late: str, last: str, emitting: str, at_once: int) -> str:
    """Take away what batches have named, and stage it."""
    row = ", ".join(of.row)
    same = of.same("s", "k")
    end = f"SELECT max(s.{windowing.END.name}) FROM {of.state_table} AS s WHERE {same}"
    whole = f"SELECT w.*, ({end}) AS {quoted(_SHOWN.name)} FROM ({of.select(same)}) AS w"
    return (
        f"WITH k AS (\n    DELETE FROM {late} WHERE {ID} IN (\n"
        f"        SELECT {ID} FROM {late} ORDER BY {ID} LIMIT {at_once}\n    )\n    RETURNING {row}\n)\n"
        + into(emitting, of, last, f"k CROSS JOIN LATERAL ({whole}) AS v", "true")
    )
