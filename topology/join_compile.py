"""Joins -> the Postgres view over the state of their tables; what can be wrong with one is found here.

The view reads rows and positions in one statement, so in one snapshot, and each worker commits both together: what is
shown is a function of the logs up to the tables' positions (engine rule C7). Rows are matched by key and time
alone. A producer with another partitioner may put a key's records into two partitions of different numbers; a condition
on the shard would lose those matches, and the primary keys of the states begin with the key and need none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from headrace.errors import DeclarationError
from topology import checks
from topology.duck import quoted, text
from topology.join import Join
from topology.latest import Latest
from topology.program import Column, JoinProgram, PipelineProgram, TableProgram
from topology.topic import Topic

_KINDS = ("inner", "left")
_INSTANT = ("TIMESTAMP WITH TIME ZONE", "timestamptz")
_MATCHED = Column("matched", "BOOLEAN", "boolean")
_MOST = 365_000 * 86_400_000_000  # a bound of 1,000 years; Postgres ends in the year 294276
_EXAMPLE = '("-5 minutes", "30 minutes")'


@dataclass(frozen=True)
class _Side:
    """Rows to join, of a table or of a join.

    source: the topic in whose partitions they lie. tables: behind them. columns: that a join of them shows, with their
    origins; time: one more, after those of both sides. rows: SQL with key, columns, `_event_time` and `shard`.
    """

    name: str
    source: Topic
    tables: tuple[TableProgram, ...]
    key: Column
    columns: tuple[Column, ...]
    time: tuple[Column, tuple[tuple[str, str], ...]] | None
    rows: str


@dataclass(frozen=True)
class _Joined:
    """A checked join: its columns with SQL over `l` and `r` and with origins, and what they are selected from."""

    left: _Side
    right: _Side
    columns: tuple[Column, ...]
    selected: tuple[str, ...]
    lineage: Mapping[str, tuple[tuple[str, str], ...]]
    source: str


def compile_join(join: Join, programs: Mapping[str, TableProgram], place: str) -> JoinProgram:
    """The program of one join over compiled tables by name; raises `DeclarationError` starting with `place`."""
    made = _joined(join, programs, place)
    ddl = f"CREATE VIEW public.{quoted(join.name)} AS\nSELECT\n    {_lines(made.selected)}\n{made.source}"
    return JoinProgram(join, (*made.left.tables, *made.right.tables), made.columns, ddl, made.lineage)


def _joined(join: Join, programs: Mapping[str, TableProgram], place: str) -> _Joined:
    where = f"{place}: {join.name}"
    checks.check_view_name(join.name, where)
    if join.kind not in _KINDS:
        raise DeclarationError(f'{where}.kind: "{join.kind}" is unknown; use "inner" or "left"')
    if not isinstance(join.left, Join):
        _check_side(join.left, f"{where}.left")
    if isinstance(join.right, Join):
        raise DeclarationError(
            f"{where}.right: {join.right.name} is a join, and only the left side may be one; swap the sides, with the "
            "bound the other way round, or join its tables one after the other"
        )
    _check_side(join.right, f"{where}.right")
    left = _join_side(join.left, programs, place) if isinstance(join.left, Join) else _side(programs[join.left.name])
    right = _side(programs[join.right.name])
    if right.name in {table.name for table in left.tables}:
        raise DeclarationError(
            f"{where}: {right.name} is on both sides; declare a second table of {right.source.name} under another name"
        )
    _check_aligned(join, left, right, where)
    low, high = _bounds(join, f"{where}.within")
    lateness = checks.duration(join.lateness, f"{where}.lateness")
    if lateness > _MOST:
        raise DeclarationError(f'{where}.lateness: "{join.lateness}" is more than 1,000 years; give it less')
    if lateness and join.kind == "inner":
        raise DeclarationError(f'{where}.lateness: an inner join waits for nothing; leave it out, or use kind="left"')
    columns, selected, lineage = _columns(join, left, right)
    _check_names(join, columns, where)
    key, other = quoted(left.key.name), quoted(right.key.name)
    source = (
        f"FROM {left.rows} AS l\n{'LEFT JOIN' if join.kind == 'left' else 'JOIN'} {right.rows} AS r"
        f" ON r.{other} = l.{key}\n"
        f"    AND r._event_time BETWEEN l._event_time + {_interval(low)} AND l._event_time + {_interval(high)}"
    )
    if join.kind == "left":
        source += (
            f"\nLEFT JOIN ledger.positions AS p ON p.table_version = {text(right.tables[0].version_id)}"
            f" AND p.topic = {text(right.source.name)} AND p.partition = l.shard\n"
            "WHERE r.shard IS NOT NULL"
            f" OR p.watermark >= (extract(epoch FROM l._event_time) * 1000000)::bigint + {high + lateness}"
        )
    return _Joined(left, right, tuple(columns), tuple(selected), lineage, source)


def _side(program: TableProgram) -> _Side:
    """The rows of a table."""
    table = program.table
    assert isinstance(table, Latest)  # checked
    # Only a history has its rows' time as a column that could be pointed at.
    time = Column(f"{table.name}_time", *_INSTANT), ((table.name, "valid_from"),) if table.history else ()
    columns = tuple(column for column in program.columns if column.name in table.measures)
    return _Side(table.name, table.source, (program,), program.key[0], columns, time, _rows(program))


def _join_side(join: Join, programs: Mapping[str, TableProgram], place: str) -> _Side:
    """The rows of a join: of equal age with the later of both, or with the left one that is alone."""
    made = _joined(join, programs, place)
    own = [*made.selected, "greatest(l._event_time, r._event_time) AS _event_time", "l.shard"]
    key, *columns = made.columns
    rows = f"(\nSELECT\n    {_lines(own)}\n{made.source}\n)"
    tables = (*made.left.tables, *made.right.tables)
    return _Side(join.name, made.left.source, tables, key, tuple(columns), None, rows)


def with_joins(pipeline: PipelineProgram, joins: Iterable[JoinProgram]) -> PipelineProgram:
    """The pipeline with those of the joins that read a table of it."""
    own = {table.version_id for table in pipeline.tables}
    return replace(pipeline, joins=tuple(join for join in joins if own & {table.version_id for table in join.tables}))


def _columns(
    join: Join, left: _Side, right: _Side
) -> tuple[list[Column], list[str], dict[str, tuple[tuple[str, str], ...]]]:
    """The columns, their SQL over `l` and `r`, and the (table or join, column) pairs behind each."""
    columns, selected = [left.key], [f"l.{quoted(left.key.name)}"]
    lineage: dict[str, tuple[tuple[str, str], ...]] = {left.key.name: ((left.name, left.key.name),)}
    for alias, side in (("l", left), ("r", right)):
        for column in side.columns:
            columns.append(column)
            selected.append(f"{alias}.{quoted(column.name)}")
            lineage[column.name] = ((side.name, column.name),)
    for alias, side in (("l", left), ("r", right)):
        if side.time:
            time, lineage[side.time[0].name] = side.time
            columns.append(time)
            selected.append(f"{alias}._event_time AS {quoted(time.name)}")
    if join.kind == "left":
        matched = replace(_MATCHED, name=f"{right.name}_matched") if isinstance(join.left, Join) else _MATCHED
        columns.append(matched)
        selected.append(f"r.shard IS NOT NULL AS {quoted(matched.name)}")
        lineage[matched.name] = ((left.name, left.key.name), (right.name, right.key.name))
    return columns, selected, lineage


def _rows(program: TableProgram) -> str:
    """The rows of a table as its state has them, deletions left out: all versions, or the newest over all shards."""
    if isinstance(program.table, Latest) and program.table.history:
        return f"(SELECT * FROM {program.state_table} WHERE NOT _deleted)"
    key = quoted(program.key[0].name)
    newest = (
        f"SELECT DISTINCT ON ({key}) * FROM {program.state_table}"
        f" ORDER BY {key}, _event_time DESC, shard DESC, _offset DESC"
    )
    return f"(SELECT * FROM ({newest}) AS newest WHERE NOT _deleted)"


def _bounds(join: Join, place: str) -> tuple[int, int]:
    """The least and the largest difference of event times, in microseconds."""
    given = join.within
    if not isinstance(given, tuple) or len(given) != 2 or not all(isinstance(end, str) for end in given):
        raise DeclarationError(f"{place}: {given!r} does not fit; write both ends, as in {_EXAMPLE}")
    low, high = (_signed(end, place) for end in given)
    if low > high:
        raise DeclarationError(f"{place}: {given!r} ends before it begins; put the smaller end first")
    if max(abs(low), abs(high)) > _MOST:
        raise DeclarationError(f"{place}: {given!r} is more than 1,000 years; bound it")
    return low, high


def _signed(duration: str, place: str) -> int:
    bare = duration.strip()
    return -checks.duration(bare[1:], place) if bare.startswith("-") else checks.duration(bare, place)


def _check_side(table: object, place: str) -> None:
    """A table whose rows each have an event time, by the key of its topic alone."""
    if not isinstance(table, Latest):
        name = getattr(table, "name", repr(table))
        raise DeclarationError(
            f"{place}: {name} has no rows with an event time each; join a Latest of the same topic, with history=True "
            "for every record"
        )
    source = table.source
    if list(table.by) != [source.key]:
        raise DeclarationError(
            f'{place}: {table.name} is by {", ".join(table.by)}, its topic {source.name} by "{source.key}", so rows '
            "that belong together may lie in different partitions; read a topic that has the key of the join: "
            f'Derived(..., source={source.name}, key="{table.by[0]}")'
        )


def _check_aligned(join: Join, left: _Side, right: _Side, where: str) -> None:
    """Equal keys are in partitions of one number, so that the opposite partition's watermark speaks for a row."""
    mine, its = left.key, right.key
    if not isinstance(join.on, Mapping) or dict(join.on) != {mine.name: its.name}:
        raise DeclarationError(
            f"{where}.on: {join.on!r} is not the key of both sides, and only by it rows that belong together lie in "
            f'one partition; write {{"{mine.name}": "{its.name}"}}, or join a topic with another key: '
            "Derived(..., key=...)"
        )
    one, two = left.source, right.source
    if one.partitions != two.partitions:
        raise DeclarationError(
            f"{where}: {one.name} has {one.partitions} partitions and {two.name} {two.partitions}, so equal keys lie "
            f'in different ones; join a Derived(..., source={two.name}, key="{two.key}", partitions={one.partitions})'
        )
    if mine.pg_type != its.pg_type:
        raise DeclarationError(
            f"{where}.on: {mine.name} of {left.name} is {_kind(mine)}, {its.name} of {right.name} is {_kind(its)}; "
            f"give one topic the type of the other: Derived(..., source={two.name}) with a cast in columns"
        )


def _check_names(join: Join, columns: Sequence[Column], where: str) -> None:
    seen: dict[str, str] = {}
    for column in columns:
        if column.name.lower() in seen:
            raise DeclarationError(
                f'{where}: column "{column.name}" is there twice; rename one in the columns of {join.left.name} or '
                f"{join.right.name}"
            )
        seen[column.name.lower()] = column.name
        checks.check_column_name(column.name, where)


def _kind(column: Column) -> str:
    return column.pg_type.partition(" COLLATE")[0]


def _interval(micros: int) -> str:
    """In microseconds alone: days of an interval would be those of the session's time zone."""
    return f"interval '{micros} microseconds'"


def _lines(columns: Sequence[str]) -> str:
    return ",\n    ".join(columns)
