"""Lookups -> the SQL that finds, for each record of a frame, the version of its key at its event time (engine rule C8).

A version is chosen by the key and by (event time, partition, offset): the largest with an event time at or before the
record's, which may be a deletion, and then there is none. Only versions at offsets before a vector count, corrections
up to a number: the rows of a vector never change, for versions are only added.

In DuckDB, over the decoded records registered as `plain`: `asked_sql` makes the table `asked` of the keys and times
asked for, `keys_sql` gives each key's text with its first and last time in the order of its number `n`. In Postgres
`versions_sql` reads the versions of these keys in that time, and the ones before. In DuckDB, with them registered as
`versions`, `looked_sql` gives the columns, in the order of the records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from headrace.errors import DeclarationError
from schemas.avro import AvroSchema, Field, did_you_mean
from topology import checks
from topology.aggregate import Aggregate
from topology.duck import quoted, text
from topology.latest import Latest
from topology.lookup import Lookup
from topology.program import Column, LookupProgram, TableProgram
from topology.route import event_micros
from topology.state import decimal_of
from topology.topic import Topic
from topology.types import Types

_MISSING = ("null", "dead_letter")
_KEYS = {'text COLLATE "C"', "integer", "bigint"}
_KINDS = {
    "VARCHAR": "string",
    "TINYINT": "int",
    "SMALLINT": "int",
    "INTEGER": "int",
    "BIGINT": "long",
    "BOOLEAN": "boolean",
    "DOUBLE": "double",
    "DATE": "date",
    "TIMESTAMP WITH TIME ZONE": "timestamp-micros",
}
_EXACT = 9_000_000_000_000_000  # microseconds that a double holds exactly: to the year 2255


@dataclass(frozen=True)
class Looked:
    """A checked lookup of a table, what runs it, and the fields that it puts beside those of the record."""

    lookup: Lookup
    program: LookupProgram
    fields: tuple[Field, ...]

    @property
    def reasons(self) -> tuple[tuple[str, str], ...]:
        """Why a record is refused."""
        if self.lookup.missing == "null":
            return ()
        return ((f"{quoted(self.program.found)} IS NOT TRUE", f"not_found:{self.program.table}"),)

    @property
    def meaning(self) -> list[object]:
        """What gives other rows when it changes."""
        named = sorted(self.lookup.named.items())
        return [self.program.version_id, self.lookup.on, [list(pair) for pair in named], self.lookup.missing]


def compile_lookups(
    table: Aggregate | Latest, topic: Topic, schema: AvroSchema, programs: Mapping[str, TableProgram], place: str
) -> list[Looked]:
    """The lookups of a table, over compiled tables by name; raises `DeclarationError` starting with `place`."""
    where = f"{place}: {table.name}.lookups"
    if isinstance(table.lookups, Lookup) or not isinstance(table.lookups, Sequence):
        raise DeclarationError(f"{where}: it is a list; write lookups=[Lookup(...)]")
    found: list[Looked] = []
    names = {field.name.lower(): f"a field of {topic.shape_name}" for field in schema.fields}
    for lookup in table.lookups:
        if not isinstance(lookup, Lookup):
            raise DeclarationError(f"{where}: {lookup!r} is no lookup; write lookups=[Lookup(...)]")
        of = _checked_table(lookup, topic, programs, where)
        _check_key(lookup, of, topic, schema, where)
        fields = tuple(_field(name, column, lookup, of, where) for name, column in _named(lookup, where).items())
        for field in fields:
            if field.name.lower() in names:
                raise DeclarationError(
                    f'{where}: "{field.name}" is {names[field.name.lower()]} already; name the column otherwise: '
                    f'Lookup({lookup.table.name}, ..., columns={{"{lookup.table.name}_{field.name}": '
                    f'"{lookup.named[field.name]}"}})'
                )
            names[field.name.lower()] = f"looked up in {lookup.table.name}"
        found.append(Looked(lookup, _program(lookup, fields, of, topic, schema), fields))
    return found


def numbered(looked: Sequence[Looked], known: dict[LookupProgram, str]) -> list[Looked]:
    """The same with a name for the column that tells whether there was a version; equal lookups share it."""
    found = []
    for one in looked:
        name = known.setdefault(one.program, f"_found{len(known)}")
        named = replace(one.program, found=name, looked_sql=one.program.looked_sql.replace(_FOUND, quoted(name)))
        found.append(replace(one, program=named))
    return found


_FOUND = "{found}"


def _checked_table(lookup: Lookup, topic: Topic, programs: Mapping[str, TableProgram], where: str) -> TableProgram:
    table = lookup.table
    if not isinstance(table, Latest):
        name = getattr(table, "name", repr(table))
        raise DeclarationError(
            f"{where}: {name} is no Latest, and has no versions to look up; declare Latest(..., history=True)"
        )
    if not table.history:
        raise DeclarationError(
            f"{where}: {table.name} has the newest rows alone, not those of a record's time; declare it with "
            "history=True"
        )
    program = programs.get(table.name)
    if table.source.pipeline_name == topic.pipeline_name:
        raise DeclarationError(
            f"{where}: {table.name} is made by the same pipeline {topic.pipeline_name}, which would wait for itself; "
            f"look up in a table of another topic, such as Derived(..., source={topic.name})"
        )
    if program is None or program.table is not table:
        raise DeclarationError(
            f'{where}: its table "{table.name}" is not declared by a name of its own at the top of a file'
            f"{did_you_mean(table.name, list(programs))}"
        )
    if len(program.key) != 1:
        raise DeclarationError(
            f"{where}: {table.name} is by {', '.join(table.by)}, a lookup has one key; declare a Latest by one column"
        )
    if lookup.missing not in _MISSING:
        raise DeclarationError(f'{where}: missing="{lookup.missing}" is unknown; use "null" or "dead_letter"')
    return program


def _check_key(lookup: Lookup, of: TableProgram, topic: Topic, schema: AvroSchema, where: str) -> None:
    key = of.key[0]
    checks.check_key(lookup.on, topic, schema, f"{where}: Lookup({of.name}).on")
    mine = checks.key_type(Types(schema).columns[lookup.on])
    if mine != key.pg_type:
        raise DeclarationError(
            f"{where}: {lookup.on} of {topic.name} is {_kind(mine)}, {key.name} of {of.name} is {_kind(key.pg_type)}; "
            f"give one topic the type of the other: Derived(..., source={topic.name}) with a cast in columns"
        )
    if mine not in _KEYS:
        raise DeclarationError(
            f"{where}: {lookup.on} is {_kind(mine)}; a lookup's key is a text, int or long: cast it in a Derived"
        )


def _named(lookup: Lookup, where: str) -> Mapping[str, str]:
    if isinstance(lookup.columns, str) or not lookup.columns:
        example = next(iter(lookup.table.measures))
        raise DeclarationError(
            f'{where}: Lookup({lookup.table.name}).columns: it needs columns; name some, as in columns=["{example}"]'
        )
    return lookup.named


def _field(name: str, column: str, lookup: Lookup, of: TableProgram, where: str) -> Field:
    """The field that a column of the table becomes; it may be null, whatever the column is."""
    place = f"{where}: Lookup({of.name}).columns"
    known = list(lookup.table.measures)
    if column not in known:
        raise DeclarationError(f'{place}: column "{column}" does not exist in {of.name}{did_you_mean(column, known)}')
    checks.check_column_name(name, place)
    duck_type = _column(of, column).duck_type
    decimal = decimal_of(duck_type)
    if decimal:
        return Field(name, "decimal", 0, precision=decimal[0], scale=decimal[1])
    if duck_type not in _KINDS:
        raise DeclarationError(f"{place}: {column} of {of.name} is {duck_type}; cast it to timestamptz there")
    return Field(name, _KINDS[duck_type], 0)


def _column(of: TableProgram, name: str) -> Column:
    return next(column for column in of.columns if column.name == name)


def _kind(pg_type: str) -> str:
    return pg_type.partition(" COLLATE")[0]


# -- the SQL


def _program(
    lookup: Lookup, fields: Sequence[Field], of: TableProgram, topic: Topic, schema: AvroSchema
) -> LookupProgram:
    origins = tuple(lookup.named[field.name] for field in fields)
    kept = [_column(of, name) for name in origins]
    columns = tuple(Column(field.name, one.duck_type, one.pg_type) for field, one in zip(fields, kept, strict=True))
    time = event_micros(topic.event_time, schema.by_name[topic.event_time.column].kind)
    asked = f"SELECT _i, CAST({quoted(lookup.on)} AS VARCHAR) AS key, {time} AS t FROM plain"
    values = [f"v.{quoted(column.name)}" for column in columns]
    looked = ", ".join([f"coalesce(NOT v._deleted, FALSE) AS {_FOUND}", *values])
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
