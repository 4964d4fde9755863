"""Windows of so many records of a key: the part of a table whose windows are made by the order of the records.

The order is that of the offsets, and all records of a key are in one partition, so the number of a record among those
of its key is a function of the log. A batch says which of its own records each one is; how many came before is in the
key's last stored window, and Postgres adds the two up. So each record is staged, and nothing is added up before.
"""

from __future__ import annotations

from collections.abc import Sequence

from topology import postgres
from topology.duck import quoted
from topology.final_counts import noted
from topology.merging import combined, merged
from topology.program import Column, Part, StateColumn
from topology.window import Count

_RECORDS = StateColumn("window_records", "BIGINT", "bigint", "add")
_AT = Column("#at", "BIGINT", "bigint")  # no column of a table has such a name


def part(
    state_table: str,
    stage: str,
    key: Sequence[Column],
    states: Sequence[tuple[StateColumn, str]],
    window: Count,
    prefix: str,
    *,
    emits: bool = False,
) -> Part:
    """The part that keeps windows of records. states: each with its DuckDB aggregate; emits: whether full ones are."""
    kept = [*(state for state, _ in states), _RECORDS]
    rows = [*key, _AT, *kept]
    merge = _merge_sql(state_table, stage, key, kept, window.records)
    return Part(
        state_table=state_table,
        state_ddl=_state_ddl(state_table, key, kept),
        rows_sql=_rows_sql(key, [*states, (_RECORDS, "count(*)")], prefix),
        stage_ddl=postgres.stage_ddl(stage, rows),
        copy_sql=postgres.copy_sql(stage, rows),
        merge_sql=(postgres.BY_INDEX, noted(state_table, key, window, merge) if emits else merge),
    )


def _rows_sql(key: Sequence[Column], states: Sequence[tuple[StateColumn, str]], prefix: str) -> str:
    """One row per applied record: which of its key's it is in the batch, from 0, and its own states."""
    names = [f"f.{quoted(column.name)}" for column in key]
    before = f"row_number() OVER (PARTITION BY {', '.join(names)} ORDER BY f._offset) - 1"
    columns = [*names, f"{before} AS {quoted(_AT.name)}"]
    columns += [f"{aggregate} AS {quoted(state.name)}" for state, aggregate in states]
    groups = ", ".join([*names, "f._offset"])
    return (
        f"SELECT {_list(columns)}\nFROM frame AS f POSITIONAL JOIN routed AS r\nWHERE r.{prefix}applied\n"
        f"GROUP BY {groups}\nORDER BY {groups}"
    )


def _state_ddl(state_table: str, key: Sequence[Column], states: Sequence[StateColumn]) -> str:
    columns = [f"{quoted(column.name)} {column.pg_type} NOT NULL" for column in key]
    columns += ["window_number bigint NOT NULL", "shard integer NOT NULL"]
    columns += [f"{quoted(column.name)} {column.pg_type}" for column in states]
    columns.append(f"PRIMARY KEY ({', '.join(_primary_key(key))})")
    return (
        f"CREATE TABLE IF NOT EXISTS {state_table} (\n    {_list(columns)}\n) WITH (fillfactor = 70, "
        "autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0)"
    )


def _merge_sql(state_table: str, stage: str, key: Sequence[Column], states: Sequence[StateColumn], size: int) -> str:
    """Put the staged records into the windows they belong to; the last of a key may go on in the next batch."""
    names = [quoted(column.name) for column in key]
    same = " AND ".join(
        [f"s.{quoted(_AT.name)} = 0", *(f"t.{name} = s.{name}" for name in names), "t.shard = %(shard)s"]
    )
    counted = (
        f"SELECT t.window_number * {size} + t.window_records AS counted FROM {state_table} AS t\n        WHERE {same}\n"
        "        ORDER BY t.window_number DESC LIMIT 1"
    )
    keys = [f"s.{name}" for name in names]
    number = f"(coalesce(max(c.counted) OVER (PARTITION BY {', '.join(keys)}), 0) + s.{quoted(_AT.name)}) / {size}"
    groups = ", ".join([*keys, "s.window_number"])
    columns = [*names, "window_number", "shard", *(quoted(state.name) for state in states)]
    values = [*keys, "s.window_number", "%(shard)s::integer", *(combined(state, "s") for state in states)]
    updates = [f"{quoted(state.name)} = {merged(state, 't', 'excluded')}" for state in states]
    return (
        f"INSERT INTO {state_table} AS t (\n    {_list(columns)}\n)\nSELECT\n    {_list(values)}\nFROM (\n"
        f"    SELECT s.*, {number} AS window_number, 0 AS shard\n"
        f"    FROM {stage} AS s LEFT JOIN LATERAL (\n        {counted}\n    ) AS c ON true\n"
        f") AS s\nGROUP BY {groups}\nORDER BY {groups}\n"
        f"ON CONFLICT ({', '.join(_primary_key(key))}) DO UPDATE SET\n    {_list(updates)}"
    )


def _primary_key(key: Sequence[Column]) -> list[str]:
    return [*(quoted(column.name) for column in key), "window_number", "shard"]


def _list(columns: Sequence[str]) -> str:
    return ",\n    ".join(columns)
