"""What the statements of all final rows have in common: what is emitted, remembered, read and shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from topology import postgres
from topology.aggregate import Aggregate
from topology.duck import quoted
from topology.program import Column
from topology.state import Kept, decimal_of
from topology.window import Count, Hopping, Session

ID, DIGEST = '"#id"', '"#digest"'  # no column of a table has such a name


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

    @property
    def names(self) -> list[str]:
        """The group columns, quoted."""
        return [quoted(column.name) for column in self.key]

    @property
    def at(self) -> tuple[str, str]:
        """What tells the windows of a group apart: the column beside the state, and the view's."""
        counted = isinstance(self.table.window, Count)
        return ("window_number", '"windowNumber"') if counted else ("window_start", '"windowStart"')

    @property
    def row(self) -> list[str]:
        """The columns beside the state that name a row."""
        return [*self.names, self.at[0]]

    @property
    def row_ddl(self) -> str:
        """The definition of these columns."""
        kind = "bigint" if isinstance(self.table.window, Count) else "timestamptz"
        keys = [f"{name} {column.pg_type} NOT NULL" for name, column in zip(self.names, self.key, strict=True)]
        return ", ".join([*keys, f"{self.at[0]} {kind} NOT NULL"])

    @property
    def withdraws(self) -> bool:
        """Whether a row that was final can be gone."""
        return isinstance(self.table.window, Session)

    def select(self, *where: str, start: str | None = None) -> str:
        """The view's rows out of stored ones `s` that all conditions hold for; start: as for `postgres.view_select`."""
        table = self.table
        version_id = f"{table.name}@{self.version}"
        return postgres.view_select(version_id, self.state_table, self.key, table.window, self.kept, where, start)

    def select_window(self) -> str:
        """The view's row of the group and window of the row `k`, by its group columns and `window_start`."""
        same = [f"s.{name} = k.{name}" for name in self.names]
        if isinstance(self.table.window, Hopping):
            return self.select(*same, start="k.window_start")
        return self.select(*same, "s.window_start = k.window_start")

    def same(self, one: str, other: str, at: str | None = None) -> str:
        """Whether two rows beside the state have one name; at: what the second's window is called."""
        names = [f"{one}.{name} = {other}.{name}" for name in self.names]
        return " AND ".join([*names, f"{one}.{self.at[0]} = {other}.{at or self.at[0]}"])


def beside(state_table: str, part: str) -> str:
    """The name of a table beside the state table."""
    return f"{state_table[:-1]}__{part}{state_table[-1]}"


def rows_ddl(of: Stored) -> str:
    """Columns of a temporary table with rows as they are emitted."""
    return ", ".join(f"{quoted(column.name)} {_pg_type(column)}" for column in of.columns)


def stage_ddl(emitting: str, of: Stored) -> str:
    """The temporary table with what a transaction emits."""
    return (
        f"CREATE TEMP TABLE IF NOT EXISTS {emitting} (\n    {rows_ddl(of)}, revision integer, {DIGEST} uuid\n"
        ") ON COMMIT DELETE ROWS"
    )


def _pg_type(column: Column) -> str:
    decimal = decimal_of(column.duck_type)
    return f"numeric({decimal[0]},{decimal[1]})" if decimal else column.pg_type


def digested(of: Stored) -> str:
    """What of a row `v` makes another revision when it changes, as a digest `d`."""
    values = [f"v.{quoted(one.view.name)}" for one in of.kept]
    if of.withdraws:  # the only windows whose end may change
        values.insert(0, 'extract(epoch FROM v."windowEnd")')
    return f"CROSS JOIN LATERAL (SELECT md5(ROW({', '.join(values)})::text)::uuid AS {DIGEST}) AS d"


def into(emitting: str, of: Stored, last: str, source: str, where: str) -> str:
    """Those rows of `source` that are not as they were emitted last."""
    names = [f"v.{quoted(column.name)}" for column in of.columns]
    return (
        f"INSERT INTO {emitting}\nSELECT {', '.join(names)}, coalesce(l.revision, 0) + 1, d.{DIGEST}\nFROM {source}\n"
        f"LEFT JOIN {last} AS l ON {of.same('l', 'v', of.at[1])}\n"
        f"{digested(of)}\n"
        f"WHERE l.{DIGEST} IS DISTINCT FROM d.{DIGEST} AND {where}"
    )


def full_sql(late: str, at_once: int) -> str:
    """Whether there are as many notes as one transaction takes, or more."""
    return f"SELECT count(*) = {at_once} FROM (SELECT FROM {late} LIMIT {at_once}) AS l"


def keep_sql(emitting: str, of: Stored, last: str) -> str:
    """Remember what is emitted."""
    columns, values = [*of.row, "revision", DIGEST], [*of.names, of.at[1], "revision", DIGEST]
    if of.withdraws:
        columns, values = [*columns, "window_end"], [*values, '"windowEnd"']
    updates = [f"{name} = excluded.{name}" for name in columns[len(of.row) :]]
    return (
        f"INSERT INTO {last} AS l ({', '.join(columns)})\nSELECT {', '.join(values)} FROM {emitting}\n"
        f"ON CONFLICT ({', '.join(of.row)}) DO UPDATE SET {', '.join(updates)}"
    )


def record_key(texts: Sequence[str]) -> str:
    """The key of a record out of its parts' texts: one as it is, any other number as a JSON array."""
    return texts[0] if len(texts) == 1 else f"json_build_array({', '.join(texts)})::text"


def read_sql(emitting: str, of: Stored) -> str:
    """Record keys and columns in the order in which they are emitted; moments in microseconds."""
    key = record_key([f"{name}::text" for name in of.names])
    columns = [postgres.numbered(column, quoted(column.name)) for column in of.columns]
    withdrawn = [f"{DIGEST} IS NULL"] if of.withdraws else []
    columns += withdrawn
    order = ", ".join(['"windowEnd"', *(f"{one} DESC" for one in withdrawn), *of.names])
    return f"SELECT {key}, {', '.join(columns)}, revision FROM {emitting} ORDER BY {order}"


def view_ddl(of: Stored, last: str) -> str:
    """The view of the rows that are final."""
    names = [f"v.{quoted(column.name)}" for column in of.columns]
    present = f" AND l.{DIGEST} IS NOT NULL" if of.withdraws else ""
    return (
        f"CREATE VIEW public.{quoted(f'{of.table.name}_final')} AS\nSELECT {', '.join(names)}, l.revision\n"
        f"FROM public.{quoted(of.table.name)} AS v\nJOIN {last} AS l ON {of.same('l', 'v', of.at[1])}{present}"
    )


def escaped(sql: str) -> str:
    """For psycopg: a remainder, written with a space after its sign, is no placeholder."""
    return sql.replace("% ", "%% ")
