"""The final rows of a table -> the SQL that finds them, and the topic that they go to.

Beside the state table a table that emits has two more: `__last`, the revision and digest of each row as it was emitted
last, and `__late`, the rows that a batch may have changed after they were final. A worker appends to the latter in the
batch's own transaction; the closer takes its entries away. Moments are passed as texts, `-infinity` among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headrace.errors import DeclarationError
from topology import checks, postgres, windowing
from topology.aggregate import Aggregate
from topology.duck import quoted
from topology.final import Final
from topology.final_schema import REVISION, schema_of
from topology.program import Column, FinalProgram
from topology.state import Kept, decimal_of
from topology.window import DAY, Hopping, Tumbling

_ID, _DIGEST = '"#id"', '"#digest"'  # no column of a table has such a name
_INSTANT = "TIMESTAMP WITH TIME ZONE"
_AT_ONCE = 20_000  # rows that one transaction of the closer looks for; a window is never split


@dataclass(frozen=True)
class Stored:
    """A table as it is stored: what of it the statements need."""

    table: Aggregate
    version: str
    state_table: str
    stage: str
    prefix: str
    key: tuple[Column, ...]
    columns: tuple[Column, ...]
    kept: Sequence[Kept]


def check(table: Aggregate, place: str) -> None:
    """Everything of a table's `emit`; raises `DeclarationError`."""
    emit, where = table.emit, f"{place}: {table.name}.emit"
    if emit is None:
        return
    if not isinstance(emit, Final):
        raise DeclarationError(
            f'{where}: {emit!r} is nothing that can be emitted; use Final(topic="...") or Changes(topic="...")'
        )
    if not isinstance(table.window, Tumbling | Hopping):
        raise DeclarationError(
            f"{where}: only rows of Tumbling and Hopping windows are emitted; use one of them, or leave emit out"
        )
    checks.check_emitted(emit.topic, emit.partitions, where)
    if emit.dead_letters is not None and not checks.TOPIC_NAME.fullmatch(emit.dead_letters):
        raise DeclarationError(
            f'{where}.dead_letters: "{emit.dead_letters}" does not fit; use letters, digits, ".", "_" and "-"'
        )
    if emit.retention is not None:
        checks.duration(emit.retention, f"{where}.retention")
    for name in [*table.by, *table.measures, *table.derived]:
        if name.lower() == REVISION:
            raise DeclarationError(f'{where}: column "{name}" has the name of the revision; rename it')


def compile_final(of: Stored, place: str) -> FinalProgram:
    """How the final rows of a checked table are found and emitted."""
    window = of.table.window
    assert isinstance(window, Tumbling | Hopping)  # checked
    topic = of.table.final
    state, longest = of.state_table, span(window)
    late, last, index = (f"{state[:-1]}__{part}{state[-1]}" for part in ("late", "last", "at"))
    names = [quoted(column.name) for column in of.key]
    panes = [*names, "window_start"]
    emitting = f"emit_{of.version}"
    keys = [f"{name} {column.pg_type} NOT NULL" for name, column in zip(names, of.key, strict=True)]
    rows = select(
        of,
        f"s.window_start > %(after)s::timestamptz - {longest}",
        f"s.window_start < %(until)s::timestamptz + {longest}",
    )
    one = select(
        of,
        *(f"s.{name} = k.{name}" for name in names),
        "s.window_start >= k.window_start",
        f"s.window_start < k.window_start + {longest}",
    )
    ends, held = windowing.stored_end(window), windows(window, names, "gone")
    hops = -(-window.micros // window.every_micros) if isinstance(window, Hopping) else 1
    return FinalProgram(
        topic=topic.known(schema_of(topic, of.columns, place)),
        ddl=(
            f"CREATE INDEX IF NOT EXISTS {index.partition('.')[2]} ON {state} (window_start)",
            f"CREATE TABLE IF NOT EXISTS {late} ({_ID} bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
            f"{', '.join([*keys, 'window_start timestamptz NOT NULL'])})",
            f"CREATE TABLE IF NOT EXISTS {last} ({', '.join([*keys, 'window_start timestamptz NOT NULL'])}, "
            f"revision integer NOT NULL, {_DIGEST} uuid NOT NULL, PRIMARY KEY ({', '.join(panes)}))",
        ),
        late_rows_sql=_late_rows_sql(of),
        late_copy_sql=f"COPY {late} ({', '.join(panes)}) FROM STDIN (FORMAT csv)",
        bound_sql=_escaped(
            f"SELECT {ends} FROM {state} AS s\nWHERE s.window_start > %(after)s::timestamptz - {longest} AND {ends} > "
            f"%(after)s::timestamptz\nORDER BY s.window_start OFFSET {max(1, _AT_ONCE // hops)} LIMIT 1"
        ),
        stage_ddl=_stage_ddl(emitting, of),
        changed_sql=_escaped(
            f"WITH gone AS (\n    DELETE FROM {late} WHERE {_ID} IN (\n"
            f"        SELECT {_ID} FROM {late} ORDER BY {_ID} LIMIT {_AT_ONCE}\n    )\n"
            f"    RETURNING {', '.join(panes)}\n), k AS (\n    {held}\n)\n"
            + _into(emitting, of, last, f"k CROSS JOIN LATERAL ({one}) AS v", 'v."windowStart" = k.window_start')
            + '\nAND v."windowEnd" <= %(after)s::timestamptz'
        ),
        closed_sql=_escaped(
            _into(emitting, of, last, f"({rows}) AS v", 'v."windowEnd" > %(after)s::timestamptz')
            + '\nAND v."windowEnd" <= %(until)s::timestamptz'
        ),
        ended_sql=_escaped(
            _into(emitting, of, last, f"({rows}) AS v", 'v."windowEnd" > %(after)s::timestamptz')
            + '\nAND v."windowStart" <= %(until)s::timestamptz'
        ),
        keep_sql=(
            f"INSERT INTO {last} AS l ({', '.join(panes)}, revision, {_DIGEST})\n"
            f"SELECT {', '.join([*names, quoted('windowStart')])}, revision, {_DIGEST} FROM {emitting}\n"
            f"ON CONFLICT ({', '.join(panes)}) DO UPDATE SET revision = excluded.revision, "
            f"{_DIGEST} = excluded.{_DIGEST}"
        ),
        read_sql=_read_sql(emitting, of),
        view=f"{of.table.name}_final",
        view_ddl=_view_ddl(of, last),
    )


def span(window: Tumbling | Hopping) -> str:
    """No window is longer: where it follows the clocks of a zone, a day has up to 25 hours, and once in a while 26."""
    longest = window.micros + (DAY // 12 if window.zone else 0)
    return f"interval '{longest} microseconds'"


def select(of: Stored, *where: str) -> str:
    """The rows of the view that the stored rows `s` for which all this is true give."""
    table = of.table
    return postgres.view_select(f"{table.name}@{of.version}", of.state_table, of.key, table.window, of.kept, where)


def _late_rows_sql(of: Stored) -> str:
    """DuckDB: the panes that the applied records among `late_taken` are in."""
    columns = [f"f.{quoted(column.name)}" for column in of.key]
    columns.append(f"make_timestamptz(r.{of.prefix}window) AS window_start")
    return (
        f"SELECT DISTINCT {', '.join(columns)}\nFROM frame AS f POSITIONAL JOIN routed AS r\n"
        f"WHERE r.{of.prefix}applied AND r._i IN (SELECT _i FROM late_taken)\nORDER BY ALL"
    )


def windows(window: Tumbling | Hopping, names: Sequence[str], panes: str) -> str:
    """The windows that hold the panes in the table `panes`, by their start."""
    keys = "".join(f"s.{name}, " for name in names)
    join, start, _ = windowing.shown(window)
    return f"SELECT DISTINCT {keys}{start} AS window_start FROM {panes} AS s{join}"


def _measures(of: Stored) -> list[Column]:
    return [one.view for one in of.kept]


def _stage_ddl(emitting: str, of: Stored) -> str:
    columns = [f"{quoted(column.name)} {_pg_type(column)}" for column in of.columns]
    return (
        f"CREATE TEMP TABLE IF NOT EXISTS {emitting} (\n    {', '.join(columns)}, revision integer, {_DIGEST} uuid\n"
        ") ON COMMIT DELETE ROWS"
    )


def _pg_type(column: Column) -> str:
    decimal = decimal_of(column.duck_type)
    return f"numeric({decimal[0]},{decimal[1]})" if decimal else column.pg_type


def _into(emitting: str, of: Stored, last: str, source: str, where: str) -> str:
    """Those rows of `source` that are not as they were emitted last."""
    names = [f"v.{quoted(column.name)}" for column in of.columns]
    values = ", ".join(f"v.{quoted(column.name)}" for column in _measures(of))
    same = [f"l.{quoted(c.name)} = v.{quoted(c.name)}" for c in of.key] + ['l.window_start = v."windowStart"']
    return (
        f"INSERT INTO {emitting}\nSELECT {', '.join(names)}, coalesce(l.revision, 0) + 1, d.{_DIGEST}\nFROM {source}\n"
        f"LEFT JOIN {last} AS l ON {' AND '.join(same)}\n"
        f"CROSS JOIN LATERAL (SELECT md5(ROW({values})::text)::uuid AS {_DIGEST}) AS d\n"
        f"WHERE l.{_DIGEST} IS DISTINCT FROM d.{_DIGEST} AND {where}"
    )


def _read_sql(emitting: str, of: Stored) -> str:
    """Record keys and columns in the order in which they are emitted; moments in microseconds."""
    texts = [f"{quoted(column.name)}::text" for column in of.key]
    key = texts[0] if len(texts) == 1 else f"json_build_array({', '.join(texts)})::text"
    columns = [
        f"(extract(epoch FROM {quoted(column.name)}) * 1000000)::bigint"
        if column.duck_type == _INSTANT
        else quoted(column.name)
        for column in of.columns
    ]
    order = ", ".join(['"windowEnd"', *(quoted(column.name) for column in of.key)])
    return f"SELECT {key}, {', '.join(columns)}, revision FROM {emitting} ORDER BY {order}"


def _view_ddl(of: Stored, last: str) -> str:
    names = [f"v.{quoted(column.name)}" for column in of.columns]
    same = [f"l.{quoted(c.name)} = v.{quoted(c.name)}" for c in of.key] + ['l.window_start = v."windowStart"']
    return (
        f"CREATE VIEW public.{quoted(f'{of.table.name}_final')} AS\nSELECT {', '.join(names)}, l.revision\n"
        f"FROM public.{quoted(of.table.name)} AS v\nJOIN {last} AS l ON {' AND '.join(same)}"
    )


def _escaped(sql: str) -> str:
    """For psycopg: a remainder, written with a space after its sign, is no placeholder."""
    return sql.replace("% ", "%% ")
