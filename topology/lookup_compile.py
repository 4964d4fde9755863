"""Lookups of a table -> their programs and the fields that its texts see; what can be wrong with one is found here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from headrace.errors import DeclarationError
from schemas.avro import AvroSchema, Field, did_you_mean
from topology import checks
from topology.aggregate import Aggregate
from topology.duck import quoted
from topology.latest import Latest
from topology.lookup import Lookup
from topology.lookup_sql import FOUND, column_of, program_of
from topology.program import LookupProgram, TableProgram
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
    time = event_micros(topic.event_time, schema.by_name[topic.event_time.column].kind)
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
        found.append(Looked(lookup, program_of(lookup, of, time), fields))
    return found


def numbered(looked: Sequence[Looked], known: dict[LookupProgram, str]) -> list[Looked]:
    """The same with a name for the column that tells whether there was a version; equal lookups share it."""
    found = []
    for one in looked:
        name = known.setdefault(one.program, f"_found{len(known)}")
        named = replace(one.program, found=name, looked_sql=one.program.looked_sql.replace(FOUND, quoted(name)))
        found.append(replace(one, program=named))
    return found


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
    duck_type = column_of(of, column).duck_type
    decimal = decimal_of(duck_type)
    if decimal:
        return Field(name, "decimal", 0, precision=decimal[0], scale=decimal[1])
    if duck_type not in _KINDS:
        raise DeclarationError(f"{place}: {column} of {of.name} is {duck_type}; cast it to timestamptz there")
    return Field(name, _KINDS[duck_type], 0)


def _kind(pg_type: str) -> str:
    return pg_type.partition(" COLLATE")[0]
