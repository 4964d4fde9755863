"""Follow-on views -> the Postgres SQL that makes them; what can be wrong with one is found here.

Everything is computed in numeric out of exact sums: nothing cancels, and equal rows of the table give equal rows here.
"""

from __future__ import annotations

import re

from headrace.errors import DeclarationError
from schemas.avro import did_you_mean
from topology import checks
from topology.aggregate import Aggregate
from topology.duck import quoted
from topology.program import Column, TableProgram, ViewProgram
from topology.state import FLOATS, SMALL, WIDE, decimal_of
from topology.stored import table_key
from topology.view import Rolling, TopK, View
from topology.window import Tumbling

_FUNCTION = re.compile(r'\s*([A-Za-z_]\w*)\s*\(\s*("?)([A-Za-z_]\w*)\2\s*\)\s*')
_MOST_WINDOWS = 10_000
_RANK = "rank"

# Over {v}, the value as numeric, null where there is none, {at}, the number of the window, and {x}, the same or null
# with the value. `w` are the last n windows, the row's own included, `p` the n before it. Windows are counted from
# 1970, which no slope depends on. Postgres gives a quotient 16 digits, so what is subtracted is not divided before.
_ANOMALY = "({m} * {own} - {s}) / nullif(sqrt({m} * ({m} * {squares} - {s} * {s}) / nullif({m} - 1, 0)), 0)"
_SKIP = {
    "avg": "avg({v}) OVER w",
    "trend": (
        "(count({v}) OVER w * sum({v} * {at}) OVER w - sum({x}) OVER w * sum({v}) OVER w)"
        " / nullif(count({v}) OVER w * sum({x} * {at}) OVER w - sum({x}) OVER w * sum({x}) OVER w, 0)"
    ),
    "anomaly": _ANOMALY.format(
        m="(count({v}) OVER p)", own="{v}", s="sum({v}) OVER p", squares="sum({v} * {v}) OVER p"
    ),
}
# Windows without value are 0 from the key's first one on: {n} of the last, {m} of those before are counted. With the
# row's own window as 0 the numbers of the last n are -(n - 1) to 0, whose sums are known.
_ZERO = {
    "avg": "coalesce(sum({v}) OVER w, 0) / {n}",
    "trend": (
        "({n} * (coalesce(sum({v} * {at}) OVER w, 0) - {at} * coalesce(sum({v}) OVER w, 0))"
        " + {n} * ({n} - 1) / 2 * coalesce(sum({v}) OVER w, 0)) / nullif({n} * {n} * ({n} * {n} - 1) / 12, 0)"
    ),
    "anomaly": _ANOMALY.format(
        m="{m}",
        own="coalesce({v}, 0)",
        s="coalesce(sum({v}) OVER p, 0)",
        squares="coalesce(sum({v} * {v}) OVER p, 0)",
    ),
}
# No column of a table has such a name.
_AT, _BEFORE, _N, _M = '"#at"', '"#before"', '"#n"', '"#m"'


def compile_view(view: View, program: TableProgram, place: str) -> ViewProgram:
    """The program of one view over a compiled table; raises `DeclarationError` starting with `place`."""
    where = f"{place}: {view.name}"
    checks.check_view_name(view.name, where)
    return _rolling(view, program, where) if isinstance(view, Rolling) else _top(view, program, where)


def _rolling(view: Rolling, program: TableProgram, where: str) -> ViewProgram:
    table = program.table
    window = table.window if isinstance(table, Aggregate) else None
    if not isinstance(window, Tumbling) or window.zone:
        raise DeclarationError(
            f"{where}.table: {program.name} has no tumbling windows of one length to look back over; "
            'give it some, as in window=Tumbling("15 minutes")'
        )
    if not 2 <= view.windows <= _MOST_WINDOWS:
        raise DeclarationError(f"{where}.windows: {view.windows} does not fit; look back over 2 to {_MOST_WINDOWS:,}")
    if view.empty not in ("skip", "zero"):
        raise DeclarationError(f'{where}.empty: "{view.empty}" is unknown; use "skip" or "zero"')
    if not view.columns:
        raise DeclarationError(
            f'{where}.columns: there is none; add one, such as "average": "avg({_a_number(program)})"'
        )
    own, lineage = [], {}
    for name, text in view.columns.items():
        spot = f"{where}.columns.{name}"
        _check_new(name, program, [*view.columns], spot)
        function, of = _parsed(text, program, spot)
        value, at = f"cast({quoted(of.name)} AS numeric)", f"cast({_AT} AS numeric)"
        number = f"CASE WHEN {quoted(of.name)} IS NOT NULL THEN {at} END"
        sql = (_SKIP if view.empty == "skip" else _ZERO)[function]
        own.append(f"{sql.format(v=value, x=number, at=at, n=_N, m=_M)} AS {quoted(name)}")
        lineage[name] = (of.name,)
    key = [quoted(column.name) for column in program.key]
    by = f"PARTITION BY {', '.join(key)}" if key else ""
    number = f'(extract(epoch FROM "windowStart") * 1000000)::bigint / {window.micros}'
    inner = f"SELECT *, {number} AS {_AT} FROM public.{quoted(program.name)}"
    if view.empty == "zero":
        inner = f"SELECT *, {_AT} - min({_AT}) OVER ({by}) AS {_BEFORE} FROM ({inner}) AS numbered"
        limits = (f"least({_BEFORE} + {k}, {view.windows})::numeric AS {name}" for k, name in ((1, _N), (0, _M)))
        inner = f"SELECT *, {', '.join(limits)} FROM ({inner}) AS counted"
    selected = [*(quoted(column.name) for column in program.columns), *own]
    ddl = (
        f"CREATE VIEW public.{quoted(view.name)} AS\nSELECT\n    {_lines(selected)}\nFROM ({inner}) AS looked\n"
        f"WINDOW w AS ({by} ORDER BY {_AT} RANGE BETWEEN {view.windows - 1} PRECEDING AND CURRENT ROW),\n"
        f"    p AS ({by} ORDER BY {_AT} RANGE BETWEEN {view.windows} PRECEDING AND 1 PRECEDING)"
    )
    columns = (*program.columns, *(Column(name, "DECIMAL(38,18)", "numeric") for name in view.columns))
    return ViewProgram(view, program.name, columns, ddl, _copied(program) | lineage)


def _top(view: TopK, program: TableProgram, where: str) -> ViewProgram:
    if not isinstance(program.table, Aggregate):
        raise DeclarationError(f"{where}.table: {program.name} has no groups to rank; name an Aggregate")
    if view.k < 1:
        raise DeclarationError(f"{where}.k: {view.k} is too few; ask for 1 row or more")
    _column(view.by, program, f"{where}.by")
    _check_new(_RANK, program, [_RANK], f"{where}.table")
    key = table_key(program)
    if view.by in key:
        raise DeclarationError(f'{where}.by: "{view.by}" names the row; rank by a measure')
    window = ["windowStart"] if program.windowed else []
    for name in view.within:
        _column(name, program, f"{where}.within")
        if name not in key or name in window:
            raise DeclarationError(f'{where}.within: "{name}" is no group column of {program.name}; use one of its by')
    groups = [*window, *view.within]
    rest = [name for name in key if name not in groups]
    if not rest:
        raise DeclarationError(f"{where}.within: each of these has one row, so each has rank 1; leave a column out")
    by = f"PARTITION BY {', '.join(map(quoted, groups))} " if groups else ""
    order = [f"{_bytes(view.by, program)} {'ASC' if view.smallest else 'DESC'}"]
    order += [_bytes(name, program) for name in rest]
    numbered = f"row_number() OVER ({by}ORDER BY {', '.join(order)}) AS {quoted(_RANK)}"
    selected = [quoted(column.name) for column in (*program.columns, Column(_RANK, "BIGINT", "bigint"))]
    ranked = f"SELECT *, {numbered} FROM public.{quoted(program.name)} WHERE {quoted(view.by)} IS NOT NULL"
    ddl = (
        f"CREATE VIEW public.{quoted(view.name)} AS\nSELECT\n    {_lines(selected)}\nFROM ({ranked}) AS ranked\n"
        f"WHERE {quoted(_RANK)} <= {view.k}"
    )
    columns = (*program.columns, Column(_RANK, "BIGINT", "bigint"))
    return ViewProgram(view, program.name, columns, ddl, _copied(program) | {_RANK: (view.by,)})


def _parsed(text: str, program: TableProgram, place: str) -> tuple[str, Column]:
    """The function of a rolling column and the table's column it is over."""
    match = _FUNCTION.fullmatch(text)
    if match is None or match[1].lower() not in _SKIP:
        raise DeclarationError(f'{place}: "{text}" does not fit; use one of {", ".join(_SKIP)} over a column')
    of = _column(match[3], program, place)
    if not _is_number(of):
        raise DeclarationError(f'{place}: column "{of.name}" is {of.pg_type.partition(" ")[0]}; use a number')
    return match[1].lower(), of


def _column(name: str, program: TableProgram, place: str) -> Column:
    for column in program.columns:
        if column.name == name:
            return column
    hint = did_you_mean(name, [column.name for column in program.columns])
    raise DeclarationError(f'{place}: column "{name}" does not exist in table {program.name}{hint}')


def _check_new(name: str, program: TableProgram, names: list[str], place: str) -> None:
    """A name for a column beside the table's own."""
    checks.check_column_name(name, place)
    others = [*(column.name for column in program.columns), *names]
    if len([other for other in others if other.lower() == name.lower()]) > 1:
        raise DeclarationError(f'{place}: column "{name}" is there twice; rename one')


def _is_number(column: Column) -> bool:
    return column.duck_type in SMALL | WIDE | FLOATS or decimal_of(column.duck_type) is not None


def _a_number(program: TableProgram) -> str:
    measures = [column.name for column in program.columns if _is_number(column)]
    return measures[-1] if measures else "column"


def _bytes(name: str, program: TableProgram) -> str:
    """A column to sort by; texts by their bytes, whatever the database's collation."""
    is_text = _column(name, program, "").duck_type == "VARCHAR"
    return f'{quoted(name)} COLLATE "C"' if is_text else quoted(name)


def _copied(program: TableProgram) -> dict[str, tuple[str, ...]]:
    return {column.name: (column.name,) for column in program.columns}


def _lines(columns: list[str]) -> str:
    return ",\n    ".join(columns)
