"""Sessions: the part of a table whose windows are made by the records in them (engine rule C4).

A batch's records are put together to sessions in DuckDB. In Postgres each of these and the stored sessions that it
touches become one: the touched rows are moved into the stage, and what touches there is inserted as one row. Sessions
of one key and shard never touch each other, so one look at each batch is enough, and the rows are a function of the
records alone: every measure merges, whatever the order.

Rows have no generation: a table of sessions is built anew whole, for they cross midnight (engine rule E3).
"""

from __future__ import annotations

from collections.abc import Sequence

from topology.duck import quoted
from topology.merging import combined
from topology.postgres import BY_INDEX, copy_sql, stage_ddl, staged
from topology.program import Column, Part, StateColumn
from topology.window import Session

# No column of a table has such a name.
_BEGUN, _START, _REACH = '"#begun"', '"#start"', '"#reach"'


def part(
    state_table: str,
    stage: str,
    key: Sequence[Column],
    states: Sequence[tuple[StateColumn, str]],
    window: Session,
    prefix: str,
    used: Sequence[int],
) -> Part:
    """The part that keeps sessions. states: each with its DuckDB aggregate; used: row expressions these are over."""
    columns = [state for state, _ in states]
    rows = staged(key, columns, True)
    return Part(
        state_table=state_table,
        state_ddl=_state_ddl(state_table, key, columns),
        rows_sql=_rows_sql(key, states, window.micros, prefix, used),
        stage_ddl=stage_ddl(stage, rows),
        copy_sql=copy_sql(stage, rows),
        merge_sql=(
            BY_INDEX,
            _touched_sql(state_table, stage, key, rows),
            _merge_sql(state_table, stage, key, columns),
        ),
    )


# -- DuckDB


def values_sql(key: Sequence[Column], window: Session, prefix: str, index: int, made: str, present: str) -> str:
    """What `made` gives over row expression `index` where it is `present`, once per key and session of the batch."""
    names, sessions = _sessions(key, window.micros, prefix, [index])
    columns = [*_shown(key, names), made]
    return f"{sessions}\nSELECT DISTINCT {', '.join(columns)}\nFROM sessions AS r\nWHERE {present}\nORDER BY ALL"


def _rows_sql(
    key: Sequence[Column], states: Sequence[tuple[StateColumn, str]], gap: int, prefix: str, used: Sequence[int]
) -> str:
    """One row per key and session of the batch's applied records."""
    names, sessions = _sessions(key, gap, prefix, used)
    shown = _shown(key, names)
    shown += [f"{aggregate.replace('f._offset', 'r._offset')} AS {quoted(state.name)}" for state, aggregate in states]
    groups = ", ".join(f"r.{name}" for name in [*names, _START])
    return f"{sessions}\nSELECT {_list(shown)}\nFROM sessions AS r\nGROUP BY {groups}\nORDER BY {groups}"


def _sessions(key: Sequence[Column], gap: int, prefix: str, used: Sequence[int]) -> tuple[list[str], str]:
    """The applied records as CTE `sessions`, each with its session's start; first the names that the key has there."""
    names = [f'"#{number}"' for number in range(len(key))]  # the record's own columns may be called as ours
    keys = [f"f.{quoted(column.name)} AS {name}" for column, name in zip(key, names, strict=True)]
    values = [*keys, "f._offset", "r.event_time", *(f"r.x{index}" for index in used)]
    same_key = f"PARTITION BY {', '.join(names)} ORDER BY event_time"
    quiet = f"event_time - lag(event_time) OVER ({same_key}) < {gap}"
    return names, (
        f"WITH passed AS (\n  SELECT {_list(values)}\n  FROM frame AS f POSITIONAL JOIN routed AS r\n"
        f"  WHERE r.{prefix}applied\n),\n"
        f"begun AS (\n  SELECT *, CASE WHEN {quiet} THEN NULL ELSE event_time END AS {_BEGUN}\n  FROM passed\n),\n"
        f"sessions AS (\n  SELECT *, max({_BEGUN}) OVER ({same_key}) AS {_START}\n  FROM begun\n)"
    )


def _shown(key: Sequence[Column], names: Sequence[str]) -> list[str]:
    shown = [f"r.{name} AS {quoted(column.name)}" for column, name in zip(key, names, strict=True)]
    return [*shown, f"make_timestamptz(r.{_START}) AS window_start"]


# -- Postgres


def _state_ddl(state_table: str, key: Sequence[Column], states: Sequence[StateColumn]) -> str:
    columns = [f"{quoted(column.name)} {column.pg_type} NOT NULL" for column in key]
    columns += ["window_start timestamptz NOT NULL", "shard integer NOT NULL"]
    columns += [f"{quoted(column.name)} {column.pg_type}" for column in states]
    names = [*(quoted(column.name) for column in key), "window_start", "shard"]
    columns.append(f"PRIMARY KEY ({', '.join(names)})")
    return (
        f"CREATE TABLE IF NOT EXISTS {state_table} (\n    {_list(columns)}\n) WITH (fillfactor = 90, "
        "autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0)"
    )


def _touched_sql(state_table: str, stage: str, key: Sequence[Column], rows: Sequence[Column]) -> str:
    """Move the stored sessions of shard `%(shard)s` that staged ones touch into the stage; the UTC days they began on.

    Of the stored sessions that begin no later than a staged one only the last can reach it.
    """
    same = " AND ".join(
        [*(f"t.{quoted(column.name)} = s.{quoted(column.name)}" for column in key), "t.shard = %(shard)s"]
    )
    look = f"SELECT t.ctid, t.window_end FROM {state_table} AS t WHERE {same}"
    names = ", ".join(quoted(column.name) for column in rows)
    return (
        f"WITH gone AS (\n    DELETE FROM {state_table} WHERE ctid = ANY (ARRAY(\n"
        f"        SELECT t.ctid FROM {stage} AS s CROSS JOIN LATERAL (\n"
        f"            ({look} AND t.window_start <= s.window_start ORDER BY t.window_start DESC LIMIT 1)\n"
        f"            UNION ALL\n"
        f"            ({look} AND t.window_start > s.window_start AND t.window_start < s.window_end)\n"
        f"        ) AS t WHERE t.window_end > s.window_start\n    )) RETURNING {names}\n),\n"
        f"moved AS (\n    INSERT INTO {stage} ({names}) SELECT {names} FROM gone RETURNING window_start\n)\n{_DAYS}"
    )


def _merge_sql(state_table: str, stage: str, key: Sequence[Column], states: Sequence[StateColumn]) -> str:
    """Insert what is staged, one row for all sessions that touch; the UTC days on which they begin."""
    names = [quoted(column.name) for column in key]
    same_key = f"PARTITION BY {', '.join(f's.{name}' for name in names)} ORDER BY s.window_start, s.window_end"
    before = "ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING"
    groups = [*(f"s.{name}" for name in names), f"s.{_START}"]
    columns = [*names, "window_start", "shard", *(quoted(state.name) for state in states)]
    values = [*groups, "%(shard)s::integer", *(combined(state, "s") for state in states)]
    return (
        f"WITH moved AS (\nINSERT INTO {state_table} (\n    {_list(columns)}\n)\nSELECT\n    {_list(values)}\nFROM (\n"
        f"    SELECT s.*, max(CASE WHEN s.window_start < s.{_REACH} THEN NULL ELSE s.window_start END)\n"
        f"        OVER ({same_key}) AS {_START}, 0 AS shard\n    FROM (\n"
        f"        SELECT s.*, max(s.window_end) OVER ({same_key} {before}) AS {_REACH}\n        FROM {stage} AS s\n"
        f"    ) AS s\n) AS s\nGROUP BY {', '.join(groups)}\nORDER BY {', '.join(groups)}\n"
        f"RETURNING window_start\n)\n{_DAYS}"
    )


_DAYS = "SELECT DISTINCT (window_start AT TIME ZONE 'UTC')::date - date '1970-01-01' FROM moved"


def _list(columns: Sequence[str]) -> str:
    return ",\n    ".join(columns)
