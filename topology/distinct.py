"""Distinct values: each that occurred is a row, so that equal values count once wherever and however often they come.

A row expression whose distinct values are counted has a part of its own beside the table's first one: group key, pane
(and generation), value and shard. The view counts the values of a row's panes over all shards. For a session a value is
kept with the start that the session had in its batch: a moment within the session, whatever that grows into.

A text of 64 bytes or more is kept as its SHA-256, whose 64 digits no shorter text can be taken for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from headrace.errors import DeclarationError
from topology import sessions, windowing
from topology.duck import quoted, text
from topology.postgres import copy_sql, stage_ddl, staged
from topology.program import Column, Part
from topology.route import Tried
from topology.state import FLOATS, PLAIN, Kept, value
from topology.window import Hopping, Session, TimeWindow, Tumbling

FUNCTION = "count distinct"
_VALUE = "#value"  # no column of a table has such a name
_DIGITS = 64  # of a SHA-256


def distinct(name: str, duck_type: str, place: str) -> Kept:
    """A measure that counts distinct values; it is `finished` once its part is known."""
    _column(duck_type, place)
    return Kept({}, Column(name, "BIGINT", "bigint"), "")


def check_window(window: object, place: str) -> None:
    """Refuse windows whose rows have no panes that values could be kept for."""
    if not isinstance(window, Tumbling | Hopping | Session | None):
        raise DeclarationError(
            f"{place}: distinct values are not kept for windows of {window}; use a window over time, or none"
        )


def parts(
    table: str, made: str, key: Sequence[Column], window: TimeWindow | None, prefix: str, counted: Mapping[str, Tried]
) -> dict[str, Part]:
    """The part of each measure by its name; those over one expression share it. made: the table's version."""
    shared: dict[int, Part] = {}
    for tried in counted.values():
        if tried.index not in shared:
            suffix = f"{made}__d{len(shared)}"
            side = f"state.{quoted(f'{table}__{suffix}')}"
            shared[tried.index] = _part(side, f"stage_{suffix}", key, window, prefix, tried)
    return {name: shared[tried.index] for name, tried in counted.items()}


def finished(
    kept: Sequence[Kept], sides: Mapping[str, Part], version_id: str, key: Sequence[Column], window: TimeWindow | None
) -> list[Kept]:
    """The measures, those that count distinct values with their finish over their part."""
    finishes = {name: _finish(side.state_table, version_id, key, window) for name, side in sides.items()}
    return [replace(one, finish=finishes.get(one.view.name, one.finish)) for one in kept]


def _part(
    state_table: str, stage: str, key: Sequence[Column], window: TimeWindow | None, prefix: str, counted: Tried
) -> Part:
    """The part that keeps the values of one row expression."""
    value_column, write = _column(counted.duck_type, "")
    columns = [*staged(key, [], window is not None), value_column]
    made = f"{write.format(v=f'r.x{counted.index}')} AS {quoted(_VALUE)}"
    present = f"r.x{counted.index} IS NOT NULL"
    if isinstance(window, Session):
        rows = sessions.values_sql(key, window, prefix, counted.index, made, present)
    else:
        rows = _rows_sql(key, prefix, window is not None, made, present)
    return Part(
        state_table=state_table,
        state_ddl=_state_ddl(state_table, columns, window),
        rows_sql=rows,
        stage_ddl=stage_ddl(stage, columns),
        copy_sql=copy_sql(stage, columns),
        merge_sql=(_merge_sql(state_table, stage, columns, window),),
    )


def _finish(side: str, version_id: str, key: Sequence[Column], window: TimeWindow | None) -> str:
    """Over a row of the view, grouped out of the stored rows `s`: how many values the part `side` has for it.

    One look into the primary key for each row that is read, so a query for few rows reads few values.
    """
    conditions = [f"d.{quoted(column.name)} = s.{quoted(column.name)}" for column in key]
    source = f"{side} AS d"
    if window is not None:
        _, start, end = windowing.shown(window)
        if isinstance(window, Tumbling):
            conditions.append(f"d.window_start = {start}")
        else:
            conditions += [f"d.window_start >= {start}", f"d.window_start < {end}"]
        if _has_generations(window):
            source += (
                f" LEFT JOIN ledger.generations AS dg ON dg.table_version = {text(version_id)} "
                "AND dg.day = (d.window_start AT TIME ZONE 'UTC')::date"
            )
            conditions.append("d.gen = coalesce(dg.gen, 0)")
    return f"(SELECT count(DISTINCT d.{quoted(_VALUE)}) FROM {source} WHERE {' AND '.join(conditions)})"


def _column(duck_type: str, place: str) -> tuple[Column, str]:
    """The column that holds a value, and the value over `{v}` in DuckDB."""
    if duck_type in FLOATS:
        raise DeclarationError(
            f"{place}: {duck_type} has values that look equal and are not; cast inside it, as in "
            "count(distinct cast(... as decimal(18,2)))"
        )
    if duck_type == "BOOLEAN":
        return Column(_VALUE, "BOOLEAN", "boolean"), "{v}"
    if duck_type == "VARCHAR":
        short = f"CASE WHEN strlen({{v}}) < {_DIGITS} THEN {{v}} ELSE sha256({{v}}) END"
        return Column(_VALUE, "VARCHAR", PLAIN["VARCHAR"]), short
    try:
        of = value(duck_type, "count", place)
    except DeclarationError as error:
        known = ", ".join(sorted([*PLAIN, "BOOLEAN", "DECIMAL"]))
        raise DeclarationError(
            f"{place}: distinct values of {duck_type} are not supported; cast it to one of {known}"
        ) from error
    return Column(_VALUE, of.duck_type, of.pg_type), of.write


def _rows_sql(key: Sequence[Column], prefix: str, windowed: bool, made: str, present: str) -> str:
    """DuckDB: the values among the applied records of a batch, each once."""
    columns = [f"f.{quoted(column.name)}" for column in key]
    columns += [f"make_timestamptz(r.{prefix}window) AS window_start"] if windowed else []
    return (
        f"SELECT DISTINCT {', '.join([*columns, made])}\nFROM frame AS f POSITIONAL JOIN routed AS r\n"
        f"WHERE r.{prefix}applied AND {present}\nORDER BY ALL"
    )


# -- Postgres


def _state_ddl(side: str, columns: Sequence[Column], window: TimeWindow | None) -> str:
    names = _primary_key(columns, window)
    made = [f"{quoted(column.name)} {column.pg_type} NOT NULL" for column in columns]
    made += ["gen integer NOT NULL"] if _has_generations(window) else []
    made += ["shard integer NOT NULL", f"PRIMARY KEY ({', '.join(names)})"]
    return f"CREATE TABLE IF NOT EXISTS {side} (\n    {_list(made)}\n)"  # values are only added


def _merge_sql(side: str, stage: str, columns: Sequence[Column], window: TimeWindow | None) -> str:
    """Add the staged values that shard `%(shard)s` does not have yet."""
    names = _primary_key(columns, window)
    values = {"gen": "coalesce(g.gen, 0)", "shard": "%(shard)s::integer"}
    source = f"FROM {stage} AS s"
    if _has_generations(window):
        source += (
            "\nLEFT JOIN ledger.generations AS g\n    ON g.table_version = %(version_id)s "
            "AND g.day = (s.window_start AT TIME ZONE 'UTC')::date"
        )
    return (
        f"INSERT INTO {side} ({', '.join(names)})\nSELECT {', '.join(values.get(name, f's.{name}') for name in names)}"
        f"\n{source}\nORDER BY {', '.join(f's.{quoted(column.name)}' for column in columns)}\n"
        f"ON CONFLICT ({', '.join(names)}) DO NOTHING"
    )


def _primary_key(columns: Sequence[Column], window: TimeWindow | None) -> list[str]:
    *places, held = (quoted(column.name) for column in columns)
    return [*places, *(["gen"] if _has_generations(window) else []), held, "shard"]


def _has_generations(window: TimeWindow | None) -> bool:
    return window is not None and not isinstance(window, Session)


def _list(columns: Sequence[str]) -> str:
    return ",\n    ".join(columns)
