"""The final rows of a table -> the SQL that finds them, and the topic that they go to.

Beside the state table a table that emits has two more: `__last`, the revision and digest of each row as it was emitted
last, and `__late`, the rows that a batch may have changed after they were final. A worker appends to the latter in the
batch's own transaction; the closer takes its entries away. Moments are passed as texts, `-infinity` among them.
"""

from __future__ import annotations

from collections.abc import Sequence

from headrace.errors import DeclarationError
from topology import checks, final_counts, final_sessions, windowing
from topology.aggregate import Aggregate
from topology.duck import quoted
from topology.final import WITHDRAWN, Final
from topology.final_schema import REVISION, schema_of
from topology.final_sql import (
    DIGEST,
    ID,
    Stored,
    beside,
    escaped,
    full_sql,
    into,
    keep_sql,
    read_sql,
    stage_ddl,
    view_ddl,
)
from topology.program import FinalProgram
from topology.window import DAY, Count, Hopping, Session, Tumbling

_AT_ONCE = 20_000  # rows that one transaction of the closer looks for; a window is never split


def check(table: Aggregate, place: str) -> None:
    """Everything of a table's `emit`; raises `DeclarationError`."""
    emit, where = table.emit, f"{place}: {table.name}.emit"
    if emit is None:
        return
    if not isinstance(emit, Final):
        raise DeclarationError(
            f'{where}: {emit!r} is nothing that can be emitted; use Final(topic="...") or Changes(topic="...")'
        )
    if table.window is None:
        raise DeclarationError(f"{where}: a row without window is never final; add a window, or leave emit out")
    checks.check_emitted(emit.topic, emit.partitions, where)
    if emit.dead_letters is not None and not checks.TOPIC_NAME.fullmatch(emit.dead_letters):
        raise DeclarationError(
            f'{where}.dead_letters: "{emit.dead_letters}" does not fit; use letters, digits, ".", "_" and "-"'
        )
    if emit.retention is not None:
        checks.duration(emit.retention, f"{where}.retention")
    if emit.idle_after is not None:
        if isinstance(table.window, Count):
            raise DeclarationError(f"{where}.idle_after: no partition holds a window of records back; leave it out")
        checks.bound(emit.idle_after, f"{where}.idle_after")
    for name in [*table.by, *table.measures, *table.derived]:
        if name.lower() == REVISION:
            raise DeclarationError(f'{where}: column "{name}" has the name of the revision; rename it')
        if name.lower() == WITHDRAWN and isinstance(table.window, Session):
            raise DeclarationError(
                f'{where}: column "{name}" has the name of what says that a session is gone; rename it'
            )


def compile_final(of: Stored, place: str) -> FinalProgram:
    """How the final rows of a checked table are found and emitted."""
    window, topic = of.table.window, of.table.final
    if isinstance(window, Session):
        return final_sessions.program(of, window, place, _AT_ONCE)
    if isinstance(window, Count):
        return final_counts.program(of, place, _AT_ONCE)
    assert isinstance(window, Tumbling | Hopping)  # checked
    state, longest = of.state_table, _span(window)
    late, last, index = (beside(state, part) for part in ("late", "last", "at"))
    names, panes = of.names, of.row
    emitting = f"emit_{of.version}"
    rows = of.select(
        f"s.window_start > %(after)s::timestamptz - {longest}",
        f"s.window_start < %(until)s::timestamptz + {longest}",
    )
    ends, held = windowing.stored_end(window), windows(window, names, "gone")
    hops = -(-window.micros // window.every_micros) if isinstance(window, Hopping) else 1
    return FinalProgram(
        topic=topic.known(schema_of(topic, of.columns, place)),
        ddl=(
            f"CREATE INDEX IF NOT EXISTS {index.partition('.')[2]} ON {state} (window_start)",
            f"CREATE TABLE IF NOT EXISTS {late} ({ID} bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, {of.row_ddl})",
            f"CREATE TABLE IF NOT EXISTS {last} ({of.row_ddl}, "
            f"revision integer NOT NULL, {DIGEST} uuid NOT NULL, PRIMARY KEY ({', '.join(panes)}))",
        ),
        late_rows_sql=_late_rows_sql(of),
        late_copy_sql=f"COPY {late} ({', '.join(panes)}) FROM STDIN (FORMAT csv)",
        bound_sql=escaped(
            f"SELECT {ends} FROM {state} AS s\nWHERE s.window_start > %(after)s::timestamptz - {longest} AND {ends} > "
            f"%(after)s::timestamptz\nORDER BY s.window_start OFFSET {max(1, _AT_ONCE // hops)} LIMIT 1"
        ),
        stage_ddl=stage_ddl(emitting, of),
        full_sql=full_sql(late, _AT_ONCE),
        changed_sql=escaped(
            f"WITH gone AS (\n    DELETE FROM {late} WHERE {ID} IN (\n"
            f"        SELECT {ID} FROM {late} ORDER BY {ID} LIMIT {_AT_ONCE}\n    )\n"
            f"    RETURNING {', '.join(panes)}\n), k AS (\n    {held}\n)\n"
            + into(emitting, of, last, f"k CROSS JOIN LATERAL ({of.select_window()}) AS v", "true")
            + '\nAND v."windowEnd" <= %(after)s::timestamptz'
        ),
        closed_sql=escaped(
            into(emitting, of, last, f"({rows}) AS v", 'v."windowEnd" > %(after)s::timestamptz')
            + '\nAND v."windowEnd" <= %(until)s::timestamptz'
        ),
        ended_sql=escaped(
            into(emitting, of, last, f"({rows}) AS v", 'v."windowEnd" > %(after)s::timestamptz')
            + '\nAND v."windowStart" <= %(until)s::timestamptz'
        ),
        keep_sql=keep_sql(emitting, of, last),
        read_sql=read_sql(emitting, of),
        view=f"{of.table.name}_final",
        view_ddl=view_ddl(of, last),
        idles=topic.idles,
    )


def _span(window: Tumbling | Hopping) -> str:
    """No window is longer: where it follows the clocks of a zone, a day has up to 25 hours, and once in a while 26."""
    longest = window.micros + (DAY // 12 if window.zone else 0)
    return f"interval '{longest} microseconds'"


def _late_rows_sql(of: Stored) -> str:
    """DuckDB: the panes that the applied records among `late_taken` are in."""
    columns = [f"f.{quoted(column.name)}" for column in of.key]
    columns.append(f"make_timestamptz(r.{of.prefix}window) AS window_start")
    return (
        f"SELECT DISTINCT {', '.join(columns)}\nFROM frame AS f POSITIONAL JOIN routed AS r\n"
        f"WHERE r.{of.prefix}applied AND r._i IN (SELECT _i FROM late_taken)\nORDER BY ALL"
    )


def windows(window: Tumbling | Hopping, names: Sequence[str], panes: str) -> str:
    """The windows that hold the panes in the table `panes`, by their start."""
    keys = "".join(f"s.{name}, " for name in names)
    join, start, _ = windowing.shown(window)
    return f"SELECT DISTINCT {keys}{start} AS window_start FROM {panes} AS s{join}"
