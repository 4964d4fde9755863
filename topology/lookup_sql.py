"""The SQL that finds, for each record of a frame, the version of its key at its event time (engine rule C8).

A version is chosen by the key and by (event time, partition, offset): the largest with an event time at or before the
record's, which may be a deletion, and then there is none. Only versions at offsets before a vector count, corrections
up to a number: the rows of a vector never change, for versions are only added.

In DuckDB, over the decoded records registered as `plain`: `asked_sql` makes the table `asked` of the keys and times
asked for, `keys_sql` gives each key's text with its first and last time in the order of its number `n`. In Postgres
`versions_sql` reads the versions of these keys in that time, and the ones before. In DuckDB, with them registered as
`versions`, `looked_sql` gives the columns, in the order of the records.
"""

from __future__ import annotations

from collections.abc import Sequence

from topology.duck import quoted, text
from topology.lookup import Lookup
from topology.program import Column, LookupProgram, TableProgram

FOUND = "{found}"  # stands for the column that tells whether there was a version, until it has a name
_EXACT = 9_000_000_000_000_000  # microseconds that a double holds exactly: to the year 2255


def column_of(of: TableProgram, name: str) -> Column:
    """A column of a table's view."""
    return next(column for column in of.columns if column.name == name)


def program_of(lookup: Lookup, of: TableProgram, time: str) -> LookupProgram:
    """What runs a checked lookup in a table's program; time: SQL of a record's event time in microseconds."""
    origins = tuple(lookup.named.values())
    kept = [column_of(of, origin) for origin in origins]
    columns = tuple(Column(name, one.duck_type, one.pg_type) for name, one in zip(lookup.named, kept, strict=True))
    asked = f"SELECT _i, CAST({quoted(lookup.on)} AS VARCHAR) AS key, {time} AS t FROM plain"
    values = [f"v.{quoted(column.name)}" for column in columns]
    looked = ", ".join([f"coalesce(NOT v._deleted, FALSE) AS {FOUND}", *values])
    return LookupProgram(
        table=of.name,
        version_id=of.version_id,
        topic=of.table.source.name,
        pipeline=of.table.source.pipeline_name,
        on=lookup.on,
        columns=columns,
        origins=origins,
        found="",
        # A text with the character U+0000 is no key of a table: Postgres cannot hold it, nor be asked for it.
        asked_sql="CREATE OR REPLACE TEMP TABLE asked AS\nSELECT *, dense_rank() OVER (ORDER BY key) AS n\n"
        f"FROM ({asked})\nWHERE key IS NOT NULL AND t IS NOT NULL AND NOT contains(key, chr(0))",
        keys_sql="SELECT key, min(t) AS first, max(t) AS last FROM asked GROUP BY n, key ORDER BY n",
        looked_sql=f"SELECT {looked}\nFROM plain AS p\nLEFT JOIN asked AS a ON a._i = p._i\n"
        "ASOF LEFT JOIN versions AS v ON v._n = a.n AND a.t >= v._since\nORDER BY p._i",
        versions_sql=_versions_sql(of, columns, origins),
    )


def _versions_sql(of: TableProgram, columns: Sequence[Column], origins: Sequence[str]) -> str:
    """The versions of the keys `keys` from `first` to `last`, and the one before, up to the vector.

    One row for each key and moment: the key's number from 1, the moment in microseconds,
    whether it is a deletion, and the columns: in DuckDB `_n`, `_since`, `_deleted` and theirs.
    The vector: `next_offsets` and `corrections` by `partitions`.
    """
    key, kind = quoted(of.key[0].name), of.key[0].pg_type
    visible = (
        f"FROM {of.state_table} AS s\n"
        "    JOIN unnest(%(partitions)s::int[], %(next_offsets)s::bigint[], %(corrections)s::bigint[])"
        " AS v(shard, next_offset, correction) ON v.shard = s.shard\n"
        f"    WHERE s.{key} = k.key AND s._offset < v.next_offset AND NOT EXISTS (\n"
        f"        SELECT FROM ledger.correction_outcomes AS o WHERE o.table_version = {text(of.version_id)}"
        f" AND o.topic = {text(of.table.source.name)}\n        AND o.partition = s.shard"
        " AND o.\"offset\" = s._offset AND o.outcome = 'replayed' AND o.seq > v.correction)"
    )
    newest = "s._event_time DESC, s.shard DESC, s._offset DESC"
    read = ", ".join(f"s.{quoted(origin)}" for origin in dict.fromkeys(origins))
    own = f"s._event_time, s.shard, s._offset, s._deleted, {read}"
    values = ", ".join(_written(origin, column) for origin, column in zip(origins, columns, strict=True))
    return (
        "SELECT DISTINCT ON (k.n, s._event_time)\n"
        f"    k.n, (extract(epoch FROM s._event_time) * 1000000)::bigint, s._deleted, {values}\n"
        f"FROM (\n    SELECT key::{kind} AS key, n, {_moment('first', low=True)} AS first,"
        f" {_moment('last', low=False)} AS last\n"
        "    FROM unnest(%(keys)s::text[], %(first)s::bigint[], %(last)s::bigint[])"
        " WITH ORDINALITY AS k(key, first, last, n)\n) AS k\n"
        f"CROSS JOIN LATERAL (\n    SELECT {own}\n    {visible}\n"
        "    AND s._event_time > k.first AND s._event_time <= k.last\n"
        f"    UNION ALL\n    (SELECT {own}\n    {visible}\n    AND s._event_time <= k.first\n"
        f"    ORDER BY {newest} LIMIT 1)\n) AS s\nORDER BY k.n, {newest}"
    )


def _moment(micros: str, *, low: bool) -> str:
    """A moment of Postgres at or beyond `micros`: more versions than are asked for do no harm."""
    rounded = f"timestamptz 'epoch' + greatest(least({micros}, {_EXACT}), -{_EXACT}) * interval '1 microsecond'"
    edge = f"{micros} < -{_EXACT} THEN timestamptz '-infinity'" if low else f"{micros} > {_EXACT} THEN 'infinity'"
    return f"CASE WHEN {edge} ELSE {rounded} END"


def _written(origin: str, column: Column) -> str:
    """A value as Arrow is given it: moments and dates as numbers, for Python has none of some years."""
    value = f"s.{quoted(origin)}"
    if column.duck_type == "DATE":
        return f"{value} - date '1970-01-01'"
    if column.duck_type == "TIMESTAMP WITH TIME ZONE":
        return f"(extract(epoch FROM {value}) * 1000000)::bigint"
    return value
