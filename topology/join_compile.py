"""Joins -> the Postgres view over the rows of their tables; what can be wrong with one is found here.

Rows are matched within a partition: both topics are partitioned by the join's key, so that what belongs together lies in
partitions of one number. Whether a row without match is shown is asked of the position of the opposite table, in the
snapshot in which the view reads the rows: the view is a function of both logs up to the two positions (engine rule C7).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from headrace.errors import DeclarationError
from topology import checks
from topology.duck import quoted, text
from topology.join import Join
from topology.latest import Latest
from topology.program import Column, JoinProgram, PipelineProgram, TableProgram

_KINDS = ("inner", "left")
_INSTANT = ("TIMESTAMP WITH TIME ZONE", "timestamptz")
_MOST = 365_000 * 86_400_000_000  # a bound of 1,000 years; Postgres ends in the year 294276


def compile_join(join: Join, programs: Mapping[str, TableProgram], place: str) -> JoinProgram:
    """The program of one join; programs: the compiled tables by name. Raises `DeclarationError` starting with `place`."""
    where = f"{place}: {join.name}"
    checks.check_view_name(join.name, where)
    steps = _steps(join)
    for step in steps:
        _check_step(step, where)
    first, *others = join.tables
    tables = [programs[table.name] for table in join.tables]
    for other in others:
        _check_aligned(first, other, programs, where)
    _check_distinct(join.tables, where)
    key = tables[0].key[0]
    columns, selected, lineage = [key], [f"s0.{quoted(key.name)}"], {key.name: ((first.name, key.name),)}
    times = []
    for n, (table, program) in enumerate(zip(join.tables, tables, strict=True)):
        for name in table.measures:
            column = next(one for one in program.columns if one.name == name)
            columns.append(column)
            selected.append(f"s{n}.{quoted(name)}")
            lineage[name] = ((table.name, name),)
        times.append(Column(f"{table.name}_time", *_INSTANT))
        lineage[times[-1].name] = ((table.name, "valid_from"),)
    columns += times
    selected += [f"s{n}._event_time AS {quoted(time.name)}" for n, time in enumerate(times)]
    checks.check_column_names([column.name for column in columns], (), where)
    source, conditions = f"FROM {tables[0].state_table} AS s0", ["NOT s0._deleted"]
    for n, step in enumerate(steps, 1):
        joined, shown = _joined(n, step, tables[n], f"s0.{quoted(key.name)}", where)
        source += f"\n{joined}"
        conditions += shown
    ddl = (
        f"CREATE VIEW public.{quoted(join.name)} AS\nSELECT\n    {_lines(selected)}\n{source}\n"
        f"WHERE {' AND '.join(conditions)}"
    )
    return JoinProgram(join, tuple(tables), tuple(columns), ddl, lineage)


def with_joins(pipeline: PipelineProgram, joins: Iterable[JoinProgram]) -> PipelineProgram:
    """The pipeline with those of the joins that read a table of it."""
    own = {table.version_id for table in pipeline.tables}
    return replace(pipeline, joins=tuple(join for join in joins if own & {table.version_id for table in join.tables}))


def _steps(join: Join) -> list[Join]:
    """The joins of a chain, the first one first."""
    return [*(_steps(join.left) if isinstance(join.left, Join) else []), join]


def _joined(n: int, step: Join, right: TableProgram, key: str, where: str) -> tuple[str, list[str]]:
    """The JOIN clause of the n-th table, and what holds for the rows that are shown."""
    low, high = bounds(step, where)
    matches = (
        f"AS s{n} ON s{n}.{quoted(right.key[0].name)} = {key} AND s{n}.shard = s0.shard AND NOT s{n}._deleted\n"
        f"    AND s{n}._event_time BETWEEN s0._event_time + {_interval(low)} AND s0._event_time + {_interval(high)}"
    )
    if step.kind == "inner":
        return f"JOIN {right.state_table} {matches}", []
    final = high + checks.duration(step.allowed_lateness, f"{where}.allowed_lateness")
    joined = (
        f"LEFT JOIN {right.state_table} {matches}\n"
        f"LEFT JOIN ledger.positions AS p{n} ON p{n}.table_version = {text(right.version_id)}"
        f" AND p{n}.topic = {text(right.table.source.name)} AND p{n}.partition = s0.shard"
    )
    passed = f"p{n}.watermark >= (extract(epoch FROM s0._event_time) * 1000000)::bigint + {final}"
    return joined, [f"(s{n}.shard IS NOT NULL OR p{n}.ended IS NOT NULL OR {passed})"]


def bounds(join: Join, where: str) -> tuple[int, int]:
    """How far before (negative) and after a left row its matches lie, in microseconds."""
    spot = f"{where}.within"
    if isinstance(join.within, str):
        length = checks.duration(join.within, spot)
        found = (-length, length)
    elif isinstance(join.within, tuple) and len(join.within) == 2 and all(isinstance(t, str) for t in join.within):
        found = (_signed(join.within[0], spot), _signed(join.within[1], spot))
    else:
        raise DeclarationError(
            f'{spot}: {join.within!r} does not fit; write "30 minutes", or a pair as in ("-5 minutes", "30 minutes")'
        )
    if found[0] > found[1]:
        raise DeclarationError(f"{spot}: {join.within!r} ends before it begins; put the earlier end first")
    if max(map(abs, found)) > _MOST:
        raise DeclarationError(f"{spot}: {join.within!r} is more than 1,000 years; bound it")
    return found


def _signed(duration: str, place: str) -> int:
    bare = duration.strip()
    return -checks.duration(bare[1:], place) if bare.startswith("-") else checks.duration(bare, place)


def _check_step(join: Join, where: str) -> None:
    if join.kind not in _KINDS:
        raise DeclarationError(f'{where}.kind: "{join.kind}" is unknown; use "inner" or "left"')
    bounds(join, where)
    if checks.duration(join.allowed_lateness, f"{where}.allowed_lateness") and join.kind == "inner":
        raise DeclarationError(
            f'{where}.allowed_lateness: an inner join waits for nothing; leave it out, or use kind="left"'
        )
    sides = [("right", join.right)] if isinstance(join.left, Join) else [("left", join.left), ("right", join.right)]
    for side, table in sides:
        if isinstance(table, Join):
            raise DeclarationError(
                f"{where}.{side}: {table.name} is a join; a chain goes on at its left side, swap them"
            )
        if not isinstance(table, Latest):
            name = getattr(table, "name", repr(table))
            raise DeclarationError(
                f"{where}.{side}: {name} does not have every record; join a Latest with history=True of the same topic"
            )
        if not table.history:
            raise DeclarationError(
                f"{where}.{side}: {table.name} has the newest row of each key alone, and a join needs every record; "
                "declare it with history=True"
            )
        key = table.source.key
        if list(table.by) != [key]:
            raise DeclarationError(
                f'{where}.{side}: {table.name} is by {", ".join(table.by)}, its topic {table.source.name} by "{key}", so '
                "rows that belong together may lie in different partitions; read a topic that has the key of the join: "
                f'Derived(..., source={table.source.name}, key="{table.by[0]}")'
            )


def _check_aligned(first: Latest, other: Latest, programs: Mapping[str, TableProgram], where: str) -> None:
    one, two = first.source, other.source
    if one.partitions != two.partitions:
        raise DeclarationError(
            f"{where}: {one.name} has {one.partitions} partitions and {two.name} {two.partitions}, so equal keys lie in "
            f'different ones; join a Derived(..., source={two.name}, key="{two.key}", partitions={one.partitions})'
        )
    mine, its = programs[first.name].key[0], programs[other.name].key[0]
    if mine.pg_type != its.pg_type:
        raise DeclarationError(
            f"{where}: the key {mine.name} of {first.name} is {_kind(mine)}, the key {its.name} of {other.name} "
            f"{_kind(its)}; give one topic the type of the other: "
            f'Derived(..., source={two.name}, key="{two.key}") with a cast'
        )


def _check_distinct(tables: Sequence[Latest], where: str) -> None:
    names = [table.name for table in tables]
    for table in tables:
        if names.count(table.name) > 1:
            raise DeclarationError(
                f"{where}: {table.name} is there twice; declare a second history of {table.source.name} under a name of "
                "its own"
            )


def _kind(column: Column) -> str:
    return column.pg_type.partition(" COLLATE")[0]


def _interval(micros: int) -> str:
    """In microseconds alone: days of an interval would be those of the session's time zone."""
    return f"interval '{micros} microseconds'"


def _lines(columns: Sequence[str]) -> str:
    return ",\n    ".join(columns)
