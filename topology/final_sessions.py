"""Final rows of sessions: those that end in time for the watermarks, and those that are gone again.

A record may prolong a session that is final, or join it to another: while it is in time itself (see `reopens_micros`),
when it is late, when it corrects a dead letter. What was emitted and is no session of its own any more, or is open
again, is withdrawn. Sessions only grow, so whatever a session has swallowed began within it: one look at what was
emitted between its start and its end is enough.

A batch names a moment of each session that it may have changed, in `__late`; the session is the one that holds it.
"""

from __future__ import annotations

from topology import postgres, windowing
from topology.duck import quoted
from topology.final_schema import schema_of
from topology.final_sql import (
    DIGEST,
    ID,
    Stored,
    beside,
    digested,
    escaped,
    full_sql,
    into,
    keep_sql,
    read_sql,
    rows_ddl,
    view_ddl,
)
from topology.program import FinalProgram
from topology.window import Session


def program(of: Stored, window: Session, place: str, at_once: int) -> FinalProgram:
    """How the final rows of a table of sessions are found and emitted."""
    topic, state = of.table.final, of.state_table
    late, last, index = (beside(state, part) for part in ("late", "last", "at"))
    emitting, looked = f"emit_{of.version}", f"look_{of.version}"
    return FinalProgram(
        topic=topic.known(schema_of(topic, of.columns, place)),
        ddl=(
            f"CREATE INDEX IF NOT EXISTS {index.partition('.')[2]} ON {state} (window_end)",
            f"CREATE TABLE IF NOT EXISTS {late} ({ID} bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, {of.row_ddl})",
            f"CREATE TABLE IF NOT EXISTS {last} ({of.row_ddl}, window_end timestamptz NOT NULL, "
            f"revision integer NOT NULL, {DIGEST} uuid, PRIMARY KEY ({', '.join(of.row)}))",
        ),
        late_rows_sql=_late_rows_sql(of, window),
        late_copy_sql=f"COPY {late} ({', '.join(of.row)}) FROM STDIN (FORMAT csv)",
        bound_sql=(
            f"SELECT s.window_end FROM {state} AS s WHERE s.window_end > %(after)s::timestamptz\n"
            f"ORDER BY s.window_end OFFSET {at_once} LIMIT 1"
        ),
        stage_ddl=(
            f"{postgres.BY_INDEX};\nCREATE TEMP TABLE IF NOT EXISTS {emitting} (\n    {rows_ddl(of)}, "
            f"revision integer, {DIGEST} uuid,\n    PRIMARY KEY ({', '.join([*of.names, of.at[1]])})\n"
            ") ON COMMIT DELETE ROWS;\n"
            f"CREATE TEMP TABLE IF NOT EXISTS {looked} (\n    {rows_ddl(of)}, {DIGEST} uuid\n) ON COMMIT DELETE ROWS"
        ),
        full_sql=full_sql(late, at_once),
        changed_sql=escaped(_changed_sql(of, late, last, emitting, looked, at_once)),
        closed_sql=escaped(
            _found(of, last, emitting, "s.window_end <= %(until)s::timestamptz", 'v."windowEnd" <= %(until)s')
        ),
        ended_sql=escaped(_found(of, last, emitting, "true", 'v."windowStart" <= %(until)s')),
        keep_sql=keep_sql(emitting, of, last),
        read_sql=read_sql(emitting, of),
        view=f"{of.table.name}_final",
        view_ddl=view_ddl(of, last),
        idles=topic.idles,
        reopens_micros=window.micros,
        gone_sql=escaped(_gone_sql(of, last, emitting, looked)),
    )


def _late_rows_sql(of: Stored, window: Session) -> str:
    """DuckDB: moments of the applied records among `late_taken`, of those surely in one session the first."""
    names = [f"f.{quoted(column.name)}" for column in of.key]
    groups = ", ".join([*names, windowing.floor("r.event_time", window.micros)])
    return (
        f"SELECT {', '.join(names)}, make_timestamptz(min(r.event_time)) AS window_start\n"
        f"FROM frame AS f POSITIONAL JOIN routed AS r\n"
        f"WHERE r.{of.prefix}applied AND r._i IN (SELECT _i FROM late_taken)\nGROUP BY {groups}\nORDER BY ALL"
    )


# -- Postgres


def _rows(of: Stored) -> str:
    """The rows of the view that are named in `k`, by their names: so each is whole, whatever its shards say."""
    return f"k CROSS JOIN LATERAL ({of.select(of.same('s', 'k'))}) AS v"


def _changed_sql(of: Stored, late: str, last: str, emitting: str, looked: str, at_once: int) -> str:
    """Take away the moments that batches have named; keep the sessions that hold them, stage those that are final."""
    row = ", ".join(of.row)
    keys = [f"g.{name}" for name in of.names]
    same = " AND ".join(f"s.{name} = g.{name}" for name in of.names)
    columns = [quoted(column.name) for column in of.columns]
    shown = ", ".join([*(f"v.{name}" for name in columns), f"d.{DIGEST}"])
    return (
        f"WITH gone AS (\n    DELETE FROM {late} WHERE {ID} IN (\n"
        f"        SELECT {ID} FROM {late} ORDER BY {ID} LIMIT {at_once}\n    )\n    RETURNING {row}\n), k AS (\n"
        f"    SELECT DISTINCT {', '.join(keys)}, h.window_start FROM gone AS g CROSS JOIN LATERAL (\n"
        f"        SELECT s.window_start, s.window_end FROM {of.state_table} AS s\n"
        f"        WHERE {same} AND s.window_start <= g.window_start ORDER BY s.window_start DESC LIMIT 1\n"
        "    ) AS h WHERE h.window_end > g.window_start\n), looked AS (\n"
        f"    INSERT INTO {looked} ({', '.join([*columns, DIGEST])})\n    SELECT {shown} FROM {_rows(of)}\n"
        f"    {digested(of)}\n    RETURNING *\n)\n"
        + into(emitting, of, last, "looked AS v", 'v."windowEnd" <= %(after)s::timestamptz')
    )


def _found(of: Stored, last: str, emitting: str, stored: str, shown: str) -> str:
    """Stage the sessions that end after `after` and are final by two conditions, on stored rows and on whole ones."""
    names = ", ".join(f"s.{name}" for name in of.row)
    return (
        f"WITH k AS (\n    SELECT DISTINCT {names} FROM {of.state_table} AS s\n"
        f"    WHERE s.window_end > %(after)s::timestamptz AND {stored}\n)\n"
        + into(emitting, of, last, _rows(of), f'v."windowEnd" > %(after)s::timestamptz AND {shown}::timestamptz')
    )


def _gone_sql(of: Stored, last: str, emitting: str, looked: str) -> str:
    """Stage what was emitted and began within a session that is staged or was looked at, and is final no more.

    Either there is no such session now, or it is open and not as it was emitted. What is staged already is counted:
    as an anti join it may be planned over the keys alone, and a key may have all rows.
    """
    start = of.at[1]
    names = ", ".join([*of.names, start, '"windowEnd"'])
    key = " AND ".join(f"l.{name} = r.{name}" for name in of.names)
    rows = [f"l.{name}" for name in of.row]
    return (
        f"INSERT INTO {emitting} ({names}, revision)\n"
        f"SELECT {', '.join(rows)}, l.window_end, l.revision + 1\nFROM (\n"
        f"    SELECT {names}, {DIGEST}, FALSE AS open FROM {emitting}\n    UNION ALL\n"
        f'    SELECT {names}, {DIGEST}, "windowEnd" > %(after)s::timestamptz AS open FROM {looked}\n) AS r\n'
        f'JOIN {last} AS l ON {key} AND l.window_start >= r.{start} AND l.window_start < r."windowEnd"\n'
        f"WHERE l.{DIGEST} IS NOT NULL\n"
        f"    AND (SELECT count(*) FROM {emitting} AS e WHERE {of.same('l', 'e', start)}) = 0\n"
        f"    AND (NOT EXISTS (SELECT FROM {of.state_table} AS s WHERE {of.same('s', 'l')})\n"
        f"        OR (r.open AND l.window_start = r.{start} AND l.{DIGEST} IS DISTINCT FROM r.{DIGEST}))\n"
        f"GROUP BY {', '.join(rows)}, l.window_end, l.revision"
    )
