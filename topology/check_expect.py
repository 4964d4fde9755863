"""Expectations -> what Postgres looks for: checked against the table's columns when the catalog loads.

An expectation that no row could fail is refused: a check that is always green says nothing. Every error is one line:
place, table, expectation, what is wrong, remedy.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time

from headrace.errors import DeclarationError
from schemas.avro import did_you_mean
from topology.aggregate import Aggregate
from topology.duck import quoted, text
from topology.expect import Between, Bound, Expect, Expectation, Holds, InSet, NotNull, Unique
from topology.expression import relation
from topology.latest import Latest
from topology.program import Column, TableProgram
from topology.stored import stored_rows, table_key

RESERVED = ("accounting", "recount", "lag", "volume", "freshness", "schema_drift", "workers", "fleet")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_NUMBER = re.compile(r"U?(TINYINT|SMALLINT|INTEGER|BIGINT|HUGEINT)|FLOAT|DOUBLE|DECIMAL\(.*\)")
_TIMES = ("DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE")


@dataclass(frozen=True)
class Expected:
    """A checked expectation: the name of its check, and what Postgres looks for.

    rule: as declared, its bounds as `Between` compares them. says: the rule in words. relation: SELECT of the rows that
    it looks at. failing: SQL, TRUE for a row of the relation that breaks the rule. stored: the relation holds the rows
    as stored and not those of the view. key: columns that name a row of the table.
    """

    name: str
    table: str
    critical: bool
    rule: Expectation
    says: str
    relation: str
    failing: str
    stored: bool
    key: tuple[str, ...]


def compile_expects(
    declared: Sequence[tuple[str, Expect]], tables: Mapping[str, TableProgram]
) -> dict[str, tuple[Expected, ...]]:
    """The expectations of each table; declared: with the file of each. Raises `DeclarationError`, one line."""
    found: dict[str, tuple[Expected, ...]] = {}
    joined: dict[str, str] = {}
    for place, expect in declared:
        name = expect.table.name if isinstance(expect.table, Aggregate | Latest) else repr(expect.table)
        program = tables.get(name)
        if program is None or program.table is not expect.table:
            raise DeclarationError(
                f'{place}: Expect: its table "{name}" is not declared by a name of its own at the top of a file'
                f"{did_you_mean(name, tuple(tables))}"
            )
        of_table = found.get(name, ())
        made = compile_expect(expect, program, place)
        for one in made:
            if one.name in {other.name for other in of_table}:
                raise DeclarationError(f'{place}: Expect({name}): "{one.name}" is there twice; rename one')
            other = joined.setdefault(f"{name}_{one.name}", name)  # the name that Dagster gives to a check's output
            if other != name:
                raise DeclarationError(
                    f'{place}: Expect({name}): "{one.name}" reads like a check of table {other} '
                    f"({name}_{one.name}); rename it"
                )
        found[name] = of_table + made
    return found


def compile_expect(expect: Expect, program: TableProgram, place: str) -> tuple[Expected, ...]:
    """The expectations of one declaration, critical ones first; a `DeclarationError` starting with `place`."""
    where = f"{place}: Expect({program.name})"
    for name in expect.critical:
        if name in expect.warning:
            raise DeclarationError(f'{where}: "{name}" is critical and a warning; leave it in one of them')
    if not expect.critical and not expect.warning:
        raise DeclarationError(f'{where}: nothing is expected; add one, such as critical={{"x_known": NotNull("x")}}')
    checker = _Checker(program)
    found = []
    for severity in ("critical", "warning"):
        for name, rule in getattr(expect, severity).items():
            found.append(checker.expected(name, rule, severity == "critical", f"{where}.{severity}.{name}"))
    return tuple(found)


class _Checker:
    """Checks the expectations of one table."""

    def __init__(self, program: TableProgram) -> None:
        self._program = program
        self._columns = {column.name: column for column in program.columns}
        self._key = table_key(program)

    def expected(self, name: str, rule: Expectation, critical: bool, where: str) -> Expected:
        if not _NAME.fullmatch(name):
            raise DeclarationError(f'{where}: name "{name}" does not fit; a small letter, then a-z, 0-9 and "_"')
        if name in RESERVED:
            raise DeclarationError(f'{where}: "{name}" is the name of a check that every table has; rename it')
        stored = False
        match rule:
            case NotNull():
                says, failing = self._not_null(rule, where)
            case Between():
                rule, says, failing = self._between(rule, where)
            case InSet():
                says, failing = self._in_set(rule, where)
            case Unique():
                stored, says, failing = self._unique(rule, where)
            case Holds():
                types = {c.name: c.pg_type.partition(" COLLATE")[0] for c in self._columns.values()}
                says = rule.condition
                failing = f"({relation(rule.condition, types, self._program.name, where)}) IS NOT TRUE"
            case _:
                raise DeclarationError(
                    f"{where}: {rule!r} is no expectation; use NotNull, Between, Unique, InSet or Holds"
                )
        rows = stored_rows(self._program) if stored else f"SELECT * FROM public.{quoted(self._program.name)}"
        return Expected(name, self._program.name, critical, rule, says, rows, failing, stored, self._key)

    def _column(self, name: str, where: str) -> Column:
        if name not in self._columns:
            hint = did_you_mean(name, tuple(self._columns))
            raise DeclarationError(f'{where}: column "{name}" does not exist in table {self._program.name}{hint}')
        return self._columns[name]

    def _not_null(self, rule: NotNull, where: str) -> tuple[str, str]:
        column = self._column(rule.column, where)
        if column.name in {*self._key, "windowEnd"}:
            raise DeclarationError(
                f'{where}: "{column.name}" belongs to the table\'s key, in which Postgres takes no null, so this could '
                "never fail; leave it out"
            )
        return f"{column.name} is not null", f"{quoted(column.name)} IS NULL"

    def _between(self, rule: Between, where: str) -> tuple[Between, str, str]:
        column = self._column(rule.column, where)
        low, high = (self._bound(bound, column, where) for bound in (rule.minimum, rule.maximum))
        if low is None and high is None:
            raise DeclarationError(
                f"{where}: Between has no bound, so it could never fail; give a minimum or a maximum"
            )
        if low is not None and high is not None and low > high:  # type: ignore[operator]  # one kind, by the column
            raise DeclarationError(f"{where}: {rule.minimum} is more than {rule.maximum}; swap them")
        name = quoted(column.name)
        broken = [] if low is None else [f"{name} < {_literal(low, column)}"]
        broken += [] if high is None else [f"{name} > {_literal(high, column)}"]
        says = column.name if low is None else f"{rule.minimum} <= {column.name}"
        says = says if high is None else f"{says} <= {rule.maximum}"
        return Between(column.name, low, high), says, " OR ".join(broken)

    def _bound(self, bound: Bound | None, column: Column, where: str) -> Bound | None:
        """A bound as it is compared: a day is its first moment, in UTC where the column has a zone."""
        kind = column.duck_type
        if _NUMBER.fullmatch(kind):
            fits = isinstance(bound, int | float) and not isinstance(bound, bool) and math.isfinite(bound)
            needs = "a number"
        elif kind in _TIMES:
            zoned = kind.endswith("ZONE")
            if isinstance(bound, date) and not isinstance(bound, datetime):
                return datetime.combine(bound, time(), UTC if zoned else None)
            fits = isinstance(bound, datetime) and (bound.tzinfo is not None) == zoned
            needs = f"a date or a datetime {'with' if zoned else 'without'} a time zone"
        else:
            raise DeclarationError(
                f'{where}: Between needs a number or a time and "{column.name}" is {_kind(column)}; use InSet or Holds'
            )
        if bound is None:
            return None
        if not fits:
            raise DeclarationError(
                f'{where}: {bound!r} does not fit column "{column.name}" ({_kind(column)}); use {needs}'
            )
        return bound

    def _in_set(self, rule: InSet, where: str) -> tuple[str, str]:
        column = self._column(rule.column, where)
        if isinstance(rule.values, str) or not rule.values:
            raise DeclarationError(f'{where}: InSet needs a list of values, such as ["A", "B"]')
        number = bool(_NUMBER.fullmatch(column.duck_type))
        if not number and column.duck_type not in ("VARCHAR", "BOOLEAN"):
            raise DeclarationError(f'{where}: InSet does not fit "{column.name}" ({_kind(column)}); use Between')
        for value in rule.values:
            kind = bool if column.duck_type == "BOOLEAN" else int | float if number else str
            if not isinstance(value, kind) or (number and isinstance(value, bool)):
                raise DeclarationError(
                    f'{where}: {value!r} does not fit column "{column.name}" ({_kind(column)}); use values of its type'
                )
        values = ", ".join(text(value) if isinstance(value, str) else str(value) for value in rule.values)
        says = f"{column.name} is one of {', '.join(str(value) for value in rule.values)}"
        return says, f"{quoted(column.name)} NOT IN ({values})"

    def _unique(self, rule: Unique, where: str) -> tuple[bool, str, str]:
        columns = [self._column(name, where).name for name in rule.columns]
        if not columns or len(set(columns)) < len(columns):
            raise DeclarationError(f"{where}: Unique needs columns, each once; as in Unique({self._named()})")
        named = {"windowStart" if name == "windowEnd" else name for name in columns}
        stored = named >= set(self._key)
        table = self._program.table
        if stored and isinstance(table, Latest) and table.history:
            raise DeclarationError(f"{where}: a history has every version of {', '.join(self._key)}; leave it out")
        if stored:
            self._check_stored(rule, where)
        names = ", ".join(map(quoted, columns))
        present = " AND ".join(f"{quoted(name)} IS NOT NULL" for name in columns)
        says = f"{', '.join(columns)} {'is stored once, in one shard' if stored else 'is unique'}"
        return stored, says, f"count(*) OVER (PARTITION BY {names}) > 1 AND {present}"

    def _check_stored(self, rule: Unique, where: str) -> None:
        """A key of the table: it can be there twice only as two stored rows, which differ in their shard."""
        source = self._program.table.source
        if source.key not in self._program.table.by:
            raise DeclarationError(
                f"{where}: the view has one row per {', '.join(self._key)}, so this could never fail, and rows of "
                f"one key are rightly stored once per shard: by lacks the records' key {source.key}; leave it out"
            )
        if set(rule.columns) != set(self._key):
            raise DeclarationError(
                f"{where}: the view has one row per {', '.join(self._key)}, so this could never fail; write "
                f"Unique({self._named()}), which looks at the rows as stored"
            )

    def _named(self) -> str:
        return ", ".join(f'"{name}"' for name in self._key)


def _kind(column: Column) -> str:
    return column.pg_type.partition(" COLLATE")[0]


def _literal(bound: Bound, column: Column) -> str:
    return f"'{bound.isoformat()}'::{column.pg_type}" if isinstance(bound, date) else str(bound)
