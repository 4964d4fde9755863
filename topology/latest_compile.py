"""A table of newest rows, or of all versions -> how records are routed to it, its state in Postgres, its view.

A stored row has, besides key and shard, the record's `_event_time` and `_offset`, which order the versions of a key
(the shard is the partition), and `_deleted`: the mark that a record without value leaves, so that an older record does
not bring the row back. One row per key and shard; with history one per version.

In DuckDB, for tables with `nulls_sql`: the batch's records without value are `nulls`, with `_i`, `_offset`, the record
key `_key` BLOB and `_event_time` BIGINT, the watermark before the record, null where there is none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from headrace.errors import DeclarationError
from schemas.avro import AvroSchema
from topology import checks, postgres
from topology.changes_compile import check as check_changes
from topology.changes_compile import compile_newest
from topology.changes_compile import meaning as emit_meaning
from topology.derived_compile import Tries
from topology.duck import quoted, text, version
from topology.expression import row_expression
from topology.latest import Latest
from topology.lookup_compile import Looked
from topology.program import Column, NewestProgram, Part, TableProgram
from topology.route import KEY_BYTES, TableRoute, TextCheck, Tried, key_checks
from topology.state import decimal_of
from topology.topic import Topic
from topology.types import Types, refuse_unstable

_LAYOUT = 1
_INSTANT = ("TIMESTAMP WITH TIME ZONE", "timestamptz")
_ORDER = (Column("_event_time", *_INSTANT), Column("_offset", "BIGINT", "bigint"))
_DELETED = Column("_deleted", "BOOLEAN", "boolean")
_FROM, _TO = Column("valid_from", *_INSTANT), Column("valid_to", *_INSTANT)
_RESERVED = ("shard", "_event_time", "_offset", "_deleted", "valid_from", "valid_to")
_FLOATS = {"FLOAT", "DOUBLE"}
_WIDE = {"UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "HUGEINT", "UHUGEINT"}  # integers that Postgres does not have
_KEYS = {"string", "enum", "int", "long", "date"}  # kinds whose text is a record key


def check(latest: Latest, topic: Topic, schema: AvroSchema, place: str) -> None:
    """Everything of a table of newest rows but its SQL texts; raises `DeclarationError`."""
    where = f"{place}: {latest.name}"
    checks.check_table_name(latest.name, where)
    if isinstance(latest.by, str) or not latest.by:
        raise DeclarationError(f'{where}.by: it needs the columns of the key, as in by=["{topic.key}"]')
    if isinstance(latest.columns, str) or not latest.columns:
        raise DeclarationError(f'{where}.columns: it needs columns; name some, as in columns=["{topic.key}"]')
    for name in latest.by:
        checks.check_key(name, topic, schema, f"{where}.by")
    checks.check_column_names([*latest.by, *latest.columns], _RESERVED, where)
    for name in latest.columns:
        checks.check_column_name(name, f"{where}.columns")
    for name, bound in (("fresh_within", latest.fresh_within), ("max_lag", latest.max_lag)):
        checks.bound(bound, f"{where}.{name}")
    if latest.emit is not None:
        check_changes(latest, topic, place)


def compile_latest(
    latest: Latest,
    schema: AvroSchema,
    prefix: str,
    tries: Tries,
    topic: dict[str, Any],
    place: str,
    looked: Sequence[Looked] = (),
) -> tuple[TableRoute, TableProgram]:
    """How a checked table of newest rows is kept. topic: the meaning of the topic's own rules, for the version.

    looked: its compiled lookups, whose fields are in the schema.
    """
    where = f"{place}: {latest.name}"
    tried = {name: _tried(latest, name, schema, tries, where) for name in latest.measures}
    rejecting = None
    if latest.where is not None:
        rejecting = tries.attempt(tries.condition(latest.where, f"{where}.where"), f"{where}.where")
    types = Types(schema)
    key = tuple(Column(name, types.columns[name], checks.key_type(types.columns[name])) for name in latest.by)
    stored = {name: _stored(name, one, f"{where}.columns.{name}") for name, one in tried.items()}
    values = tuple(column for _, column in stored.values())
    deleting = _deleting(latest, schema)
    texts = [TextCheck(one.value, f"nul_in_value:{name}") for name, one in tried.items() if one.duck_type == "VARCHAR"]
    route = TableRoute(
        prefix=prefix,
        null_keys=tuple(name for name in latest.by if schema.by_name[name].nullable),
        texts=(*key_checks([name for name in latest.by if schema.by_name[name].kind == "string"]), *texts),
        measures=tuple((name, one.index) for name, one in tried.items() if one.can_fail),
        where=rejecting.index if rejecting else None,
        window_micros=None,
        lookups=tuple(reason for one in looked for reason in one.reasons),
    )
    expressions = [one.expression for one in tried.values()] + ([rejecting.expression] if rejecting else [])
    used = {name for one in expressions for name in one.columns} | {*latest.by}
    used |= {one.program.on for one in looked}
    definition = {
        "layout": _LAYOUT,
        "duckdb": version(),
        "latest": latest.name,
        "topic": latest.source.name,
        "by": list(latest.by),
        "columns": [[name, one.expression.canonical, one.duck_type] for name, one in tried.items()],
        "where": rejecting.expression.canonical if rejecting else None,
        "history": latest.history,
        "deletes": deleting is not None,
        "source": topic,
        "fields": {
            f.name: [f.kind, str(types.columns[f.name]), f.nullable, list(f.symbols)]
            for f in schema.fields
            if f.name in used
        },
    }
    definition |= emit_meaning(latest.emit)
    if looked:
        definition["lookups"] = [one.meaning for one in looked]
    canonical = json.dumps(definition, sort_keys=True, separators=(",", ":"))
    made = hashlib.sha256(canonical.encode()).hexdigest()[:12]
    state_table, stage = f"state.{quoted(f'{latest.name}__{made}')}", f"stage_{made}"
    rows = [*key, *_ORDER, _DELETED, *values]
    program = TableProgram(
        table=latest,
        prefix=prefix,
        version=made,
        parts=(
            Part(
                state_table=state_table,
                state_ddl=_state_ddl(state_table, key, values, history=latest.history),
                rows_sql=_rows_sql(latest, key, {n: sql for n, (sql, _) in stored.items()}, values, prefix, deleting),
                stage_ddl=postgres.stage_ddl(stage, rows),
                copy_sql=postgres.copy_sql(stage, rows),
                merge_sql=(_merge_sql(state_table, stage, key, rows, history=latest.history),),
            ),
        ),
        key=key,
        states=(),
        columns=(*key, *values, *((_FROM, _TO) if latest.history else ())),
        window_micros=None,
        lateness_micros=0,
        final_sql=None,
        view_ddl=(_history_ddl if latest.history else _view_ddl)(latest.name, state_table, key, values),
        lineage=_lineage(latest, tried),
        definition=definition,
        nulls_sql=None if deleting is None else f"SELECT _i, {deleting} AS reason FROM nulls ORDER BY _i",
        lookups=tuple(one.program for one in looked),
        newest=NewestProgram(
            _versions_sql(key, {name: sql for name, (sql, _) in stored.items()}, values, prefix, deleting),
            _before_sql(state_table, stage, key, rows),
        ),
        changes=compile_newest(latest, state_table, stage, key, (*key, *values), place) if latest.emit else None,
    )
    return route, program


def _tried(latest: Latest, name: str, schema: AvroSchema, tries: Tries, where: str) -> Tried:
    place = f"{where}.columns.{name}"
    expression = row_expression(latest.measures[name], schema, latest.source.shape_name, place)
    refuse_unstable(expression, place)
    return tries.attempt(expression, place)


def _stored(name: str, tried: Tried, place: str) -> tuple[str, Column]:
    """The SQL of a value on its way to Postgres, and the column that holds it."""
    value, kind = f"r.x{tried.index}" if tried.can_fail else f"f.{tried.expression.sql}", tried.duck_type
    decimal = decimal_of(kind)
    if decimal:
        return value, Column(name, kind, f"numeric({decimal[0]},{decimal[1]})")
    if kind in checks.KEY_TYPES:
        return value, Column(name, kind, checks.KEY_TYPES[kind])
    if kind in _FLOATS:
        return f"CAST({value} AS DOUBLE)", Column(name, "DOUBLE", "double precision")
    if kind in _WIDE:
        return f"CAST({value} AS DECIMAL(38,0))", Column(name, "DECIMAL(38,0)", "numeric(38,0)")
    known = ", ".join(sorted([*checks.KEY_TYPES, *_FLOATS, "DECIMAL"]))
    raise DeclarationError(f"{place}: {kind} is not supported; cast it to one of {known}")


def _deleting(latest: Latest, schema: AvroSchema) -> str | None:
    """SQL over `nulls`: why a record without value deletes nothing, null where it does; None where none can."""
    key = latest.source.key
    field = schema.by_name[key]
    if list(latest.by) != [key] or field.kind not in _KEYS:
        return None
    value, same = _KEY, f"{_KEY} IS NULL"
    if field.kind in {"int", "long", "date"}:
        value = _typed(Types(schema).columns[key])
        same = f"CAST({value} AS VARCHAR) IS DISTINCT FROM {_KEY}"
    if field.kind == "enum":
        same = f"{_KEY} NOT IN ({', '.join(map(text, field.symbols))}) OR {same}"
    bad = f"{same} OR contains({_KEY}, chr(0)) OR strlen({_KEY}) > {KEY_BYTES}"
    return f"CASE WHEN _key IS NULL THEN 'empty_value' WHEN {bad} THEN {text(f'bad_key:{key}')} END"


_KEY = "TRY(decode(_key))"


def _typed(duck_type: str) -> str:
    return f"TRY_CAST({_KEY} AS {duck_type})"


def _rows_sql(
    latest: Latest,
    key: Sequence[Column],
    values: dict[str, str],
    columns: Sequence[Column],
    prefix: str,
    deleting: str | None,
) -> str:
    """The newest row of each key among the applied records and deletions of a batch, or all of them."""
    rows = _versions_sql(key, values, columns, prefix, deleting)
    names = ", ".join(quoted(column.name) for column in key)
    if latest.history:
        return f"{rows}\nORDER BY {names}, _event_time, _offset"
    newest = f"QUALIFY row_number() OVER (PARTITION BY {names} ORDER BY _event_time DESC, _offset DESC) = 1"
    return f"SELECT * FROM (\n{rows}\n)\n{newest}\nORDER BY {names}"


def _versions_sql(
    key: Sequence[Column], values: dict[str, str], columns: Sequence[Column], prefix: str, deleting: str | None
) -> str:
    """The applied records and deletions of a batch."""
    keys = [f"f.{quoted(column.name)}" for column in key]
    made = [f"{sql} AS {quoted(name)}" for name, sql in values.items()]
    order = ["make_timestamptz(r.event_time) AS _event_time", "f._offset", "FALSE AS _deleted"]
    rows = (
        f"SELECT {_list([*keys, *order, *made])}\nFROM frame AS f POSITIONAL JOIN routed AS r\nWHERE r.{prefix}applied"
    )
    if deleting is not None:
        nothing = [f"CAST(NULL AS {column.duck_type})" for column in columns]
        gone = [_typed(key[0].duck_type), "make_timestamptz(_event_time)", "_offset", "TRUE", *nothing]
        rows += f"\nUNION ALL\nSELECT {_list(gone)}\nFROM nulls\nWHERE ({deleting}) IS NULL AND _event_time IS NOT NULL"
    return rows


# -- Postgres


def _before_sql(state_table: str, stage: str, key: Sequence[Column], rows: Sequence[Column]) -> str:
    """The newest row that the shard has of each staged key."""
    keys = [quoted(column.name) for column in key]
    same = " AND ".join([*(f"s.{name} = k.{name}" for name in keys), "s.shard = %(shard)s"])
    names = [postgres.numbered(one, f"v.{quoted(one.name)}") for one in rows]
    return (
        f"SELECT {', '.join(names)}\nFROM (SELECT DISTINCT {', '.join(keys)} FROM {stage}) AS k\n"
        f"CROSS JOIN LATERAL (\nSELECT * FROM {state_table} AS s WHERE {same}\n"
        "ORDER BY s._event_time DESC, s._offset DESC LIMIT 1\n) AS v"
    )


def _state_ddl(state_table: str, key: Sequence[Column], values: Sequence[Column], *, history: bool) -> str:
    columns = [f"{quoted(column.name)} {column.pg_type} NOT NULL" for column in (*key, *_ORDER, _DELETED)]
    columns += ["shard integer NOT NULL", *(f"{quoted(column.name)} {column.pg_type}" for column in values)]
    columns.append(f"PRIMARY KEY ({', '.join(_primary_key(key, history))})")
    options = (
        ""  # versions are only added
        if history
        else " WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0)"
    )
    return f"CREATE TABLE IF NOT EXISTS {state_table} (\n    {_list(columns)}\n){options}"


def _merge_sql(state_table: str, stage: str, key: Sequence[Column], rows: Sequence[Column], *, history: bool) -> str:
    """The staged rows into the state of shard `%(shard)s`: a row gives way to a newer one only."""
    names = [quoted(column.name) for column in rows]
    keys = [quoted(column.name) for column in key]
    insert = (
        f"INSERT INTO {state_table} AS t (\n    {_list([*names, 'shard'])}\n)\n"
        f"SELECT\n    {_list([*(f's.{name}' for name in names), '%(shard)s::integer'])}\nFROM {stage} AS s\n"
        f"ORDER BY {', '.join(f's.{name}' for name in keys)}\n"
        f"ON CONFLICT ({', '.join(_primary_key(key, history))}) DO "
    )
    if history:
        return f"{insert}NOTHING"
    updates = [f"{name} = excluded.{name}" for name in names[len(keys) :]]
    newer = "(excluded._event_time, excluded._offset) > (t._event_time, t._offset)"
    return f"{insert}UPDATE SET\n    {_list(updates)}\nWHERE {newer}"


def _view_ddl(name: str, state_table: str, key: Sequence[Column], values: Sequence[Column]) -> str:
    """The newest row of each key over all shards, unless it is a deletion."""
    keys = [f"s.{quoted(column.name)}" for column in key]
    columns = [*keys, *(f"s.{quoted(column.name)}" for column in values)]
    newest = (
        f"SELECT DISTINCT ON ({', '.join(keys)})\n    {_list([*columns, 's._deleted'])}\nFROM {state_table} AS s\n"
        f"ORDER BY {', '.join([*keys, 's._event_time DESC', 's.shard DESC', 's._offset DESC'])}"
    )
    return (
        f"CREATE OR REPLACE VIEW public.{quoted(name)} AS\nSELECT\n    {_list(columns)}\nFROM (\n{newest}\n) AS s\n"
        "WHERE NOT s._deleted"
    )


def _history_ddl(name: str, state_table: str, key: Sequence[Column], values: Sequence[Column]) -> str:
    """Every version of each key, valid until the next one; a deletion ends a version and is none."""
    keys = [f"s.{quoted(column.name)}" for column in key]
    columns = [*keys, *(f"s.{quoted(column.name)}" for column in values)]
    following = f"lead(s._event_time) OVER (PARTITION BY {', '.join(keys)} ORDER BY s._event_time, s.shard, s._offset)"
    versions = _list([*columns, "s._event_time AS valid_from", f"{following} AS valid_to", "s._deleted"])
    return (
        f"CREATE OR REPLACE VIEW public.{quoted(name)} AS\n"
        f"SELECT\n    {_list([*columns, 's.valid_from', 's.valid_to'])}\n"
        f"FROM (\nSELECT\n    {versions}\nFROM {state_table} AS s\n) AS s\nWHERE NOT s._deleted"
    )


def _primary_key(key: Sequence[Column], history: bool) -> list[str]:
    return [*(quoted(column.name) for column in key), *(["_event_time", "_offset"] if history else []), "shard"]


def _lineage(latest: Latest, tried: dict[str, Tried]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {name: (name,) for name in latest.by}
    found |= {name: one.expression.columns for name, one in tried.items()}
    when = (latest.source.event_time.column,)
    return found | ({_FROM.name: when, _TO.name: when} if latest.history else {})


def _list(columns: Sequence[str]) -> str:
    return ",\n    ".join(columns)
