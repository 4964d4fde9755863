"""How a table remembers the ids that it has had: an own state table beside those of its rows (engine rule C10).

A row holds an id, the shard, and `until`: the watermark (microseconds) at which the id is forgotten. One id has one
row, for it is registered again only when it was forgotten before. Rows that are forgotten are removed by range.
"""

from __future__ import annotations

from typing import Any

from headrace.errors import DeclarationError
from schemas.avro import AvroSchema
from topology import checks, postgres
from topology.aggregate import Aggregate
from topology.dedup import Dedup
from topology.duck import quoted
from topology.program import Column, Ids
from topology.route import KEY_BYTES, TextCheck
from topology.topic import Topic
from topology.types import Types

_NUMBER = Column("n", "BIGINT", "bigint")


def check(table: Aggregate, topic: Topic, schema: AvroSchema, place: str) -> None:
    """Everything of a table's dedup; raises `DeclarationError`."""
    if table.dedup is None:
        return
    where = f"{place}: {table.name}.dedup"
    if not isinstance(table.dedup, Dedup):
        raise DeclarationError(f'{where}: {table.dedup!r} is no dedup; use Dedup("{topic.key}", horizon="1 hour")')
    ids = table.dedup.ids
    if not ids:
        raise DeclarationError(f'{where}: it needs the columns of the id, as in Dedup("{topic.key}", horizon="1 hour")')
    for name in ids:
        checks.check_key(name, topic, schema, where)
        if ids.count(name) > 1:
            raise DeclarationError(f'{where}: column "{name}" is there twice; leave one out')
    if topic.key not in ids:
        raise DeclarationError(
            f"{where}: records of one id may be in several partitions, for {topic.name} has another key; add "
            f'"{topic.key}" to the columns, or read the records re-keyed: Derived(..., key="{ids[0]}")'
        )
    if checks.duration(table.dedup.horizon, f"{where}.horizon") <= 0:
        raise DeclarationError(
            f'{where}.horizon: "{table.dedup.horizon}" remembers nothing; give it more, or leave dedup out'
        )


def id_checks(dedup: Dedup, schema: AvroSchema) -> list[TextCheck]:
    """What must hold for the free texts of an id, which share an entry of an index."""
    free = [name for name in dedup.ids if schema.by_name[name].kind == "string"]
    limit = KEY_BYTES // max(1, len(free))
    return [TextCheck(quoted(name), f"nul_in_id:{name}", f"id_too_long:{name}", limit, key=name) for name in free]


def null_reasons(dedup: Dedup, schema: AvroSchema) -> tuple[tuple[str, str], ...]:
    """A record without id is a dead letter: it can be told from no other."""
    return tuple((f"{quoted(name)} IS NULL", f"null_id:{name}") for name in dedup.ids if schema.by_name[name].nullable)


def meaning(dedup: Dedup, schema: AvroSchema) -> dict[str, Any]:
    """What gives other rows when it changes."""
    types, fields = Types(schema), schema.by_name
    return {
        "horizon": checks.duration(dedup.horizon, "dedup"),
        "ids": [[name, fields[name].kind, str(types.columns[name]), fields[name].nullable] for name in dedup.ids],
    }


def compile_dedup(dedup: Dedup, schema: AvroSchema, name: str, made: str, prefix: str) -> Ids:
    """The ids of table `name`, whose version is `made`; prefix: of its columns in `routed`."""
    types = Types(schema)
    kinds = [types.columns[column] for column in dedup.ids]
    ids = [Column(f"id_{k}", kind, checks.key_type(kind)) for k, kind in enumerate(kinds)]
    names = [column.name for column in ids]
    shown = [f"f.{quoted(column)} AS {own}" for column, own in zip(dedup.ids, names, strict=True)]
    state_table, stage = f"state.{quoted(f'{name}__{made}__seen')}", f"stage_seen_{made}"
    staged = [_NUMBER, *ids]
    primary_key = ", ".join([*names, "shard"])
    columns = [*(f"{column.name} {column.pg_type} NOT NULL" for column in ids)]
    columns += ["shard integer NOT NULL", "until bigint NOT NULL", f"PRIMARY KEY ({primary_key})"]
    same = " AND ".join(f"t.{own} = s.{own}" for own in names)
    return Ids(
        horizon_micros=checks.duration(dedup.horizon, name),
        columns=tuple(ids),
        rows_sql=(f"SELECT {', '.join(shown)}\nFROM frame AS f POSITIONAL JOIN routed AS r\nWHERE r.{prefix}applied"),
        state_ddl=(
            f"CREATE TABLE IF NOT EXISTS {state_table} (\n    {', '.join(columns)}\n) WITH (fillfactor = 90, "
            "autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);\n"
            f"CREATE INDEX IF NOT EXISTS {quoted(f'{name}__{made}__till')} ON {state_table} USING brin (until) "
            "WITH (pages_per_range = 16, autosummarize = on)"
        ),
        stage_ddl=postgres.stage_ddl(stage, staged),
        copy_sql=postgres.copy_sql(stage, staged),
        seen_sql=(
            f"SELECT s.n, t.until FROM {stage} AS s CROSS JOIN LATERAL (\n    SELECT t.until FROM {state_table} AS t"
            f" WHERE {same} AND t.shard = %(shard)s LIMIT 1\n) AS t"
        ),
        register_sql=(
            f"INSERT INTO {state_table} AS t ({', '.join(names)}, shard, until)\n"
            f"SELECT {', '.join(names)}, %(shard)s::integer, n FROM {stage} ORDER BY {', '.join(names)}\n"
            f"ON CONFLICT ({primary_key}) DO UPDATE SET until = excluded.until"
        ),
        forget_sql=f"DELETE FROM {state_table} WHERE until <= %(watermark)s AND shard = %(shard)s",
    )
