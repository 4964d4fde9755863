"""The rows that break an expectation, and where in the log they came from. Imported by a run only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from psycopg import sql

from ledger import Connection, reports
from topology.check_expect import Expected
from topology.duck import quoted
from topology.program import TableProgram
from topology.stored import SHARD, stored_rows
from topology.window import TimeWindow

# A run only reads, and a scan that takes longer than this is not worth its load.
SESSION = "-c default_transaction_read_only=on -c statement_timeout=600s -c search_path=public -c timezone=UTC"
SHOWN = 20
_RANGES = 5  # of one row
_FLAG, _TOTAL = "__failing", "__total"
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_CELL = 80


@dataclass(frozen=True)
class FailingRow:
    """A row that breaks an expectation: its key, its other columns, and per shard that stores it the offset ranges."""

    key: Mapping[str, Any]
    values: Mapping[str, Any]
    origins: Mapping[int, Sequence[str]]


def count(db: Connection, relation: str) -> int:
    """How many rows a SELECT gives."""
    found = db.execute(f"SELECT count(*) FROM ({relation}) AS r".encode()).fetchone()
    assert found is not None  # count(*) gives one row
    return int(found[0])


def failing(
    db: Connection, ledger: sa.Engine, program: TableProgram, one: Expected
) -> tuple[int, Sequence[FailingRow]]:
    """How many rows break `one`, and the first `SHOWN` of them by key, with their origins."""
    judged = f"SELECT r.*, ({one.failing}) AS {quoted(_FLAG)} FROM ({one.relation}) AS r"
    order = ", ".join(quoted(name) for name in (*one.key, *([SHARD] if one.stored else [])))
    query = (
        f"SELECT f.*, count(*) OVER () AS {quoted(_TOTAL)} FROM ({judged}) AS f WHERE f.{quoted(_FLAG)}"
        f" ORDER BY {order} LIMIT {SHOWN}"
    )
    cursor = db.execute(query.encode())  # without parameters: a percent sign in a condition is its own
    names = [column.name for column in cursor.description or ()]
    found = [dict(zip(names, row, strict=True)) for row in cursor]
    total = found[0][_TOTAL] if found else 0
    return total, [_with_origins(db, ledger, program, one, row) for row in found]


def _with_origins(
    db: Connection, ledger: sa.Engine, program: TableProgram, one: Expected, row: Mapping[str, Any]
) -> FailingRow:
    key = {name: row[name] for name in one.key}
    values = {name: value for name, value in row.items() if name not in {*key, SHARD, _FLAG, _TOTAL}}
    shards = [row[SHARD]] if one.stored else _shards(db, program, row)
    window, span = program.table.window, None
    if isinstance(window, TimeWindow):
        start, end = (_micros(row[name]) for name in ("windowStart", "windowEnd"))
        span = (window.last_start(start), end)
    origins: dict[int, list[str]] = {shard: [] for shard in shards}
    for found in reports.batch_ranges(ledger, program.version_id, shards, span):
        origins[found.shard].append(str(found))
    return FailingRow(key, values, origins)


def _shards(db: Connection, program: TableProgram, row: Mapping[str, Any]) -> list[int]:
    """The shards that store a part of a row of the view."""
    same = [sql.SQL("s.{} = %s").format(sql.Identifier(column.name)) for column in program.key]
    values = [row[column.name] for column in program.key]
    if program.windowed:
        same.append(sql.SQL('s."windowStart" >= %s AND s."windowStart" < %s').format())
        values += [row["windowStart"], row["windowEnd"]]
    query = sql.SQL("SELECT DISTINCT {} FROM ({}) AS s WHERE {} ORDER BY 1").format(
        sql.Identifier(SHARD),
        sql.SQL(stored_rows(program)),
        sql.SQL(" AND ").join(same),
    )
    return [shard for (shard,) in db.execute(query, values)]


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def table(shown: Sequence[FailingRow]) -> str:
    """Failing rows as markdown."""
    head = [*shown[0].key, *shown[0].values, "shards", "from offsets"]
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
    for row in shown:
        shards = ", ".join(map(str, row.origins))
        offsets = "<br>".join(line for shard in row.origins for line in origin(shard, row.origins[shard]))
        cells = [*map(_cell, (*row.key.values(), *row.values.values())), shards, offsets]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def origin(shard: int, ranges: Sequence[str]) -> list[str]:
    """The offsets of one shard in words."""
    if not ranges:
        return [f"shard {shard}: no batch of the ledger"]
    more = [f"and {len(ranges) - _RANGES} more ranges"] if len(ranges) > _RANGES else []
    return [*ranges[:_RANGES], *more]


def listed(shown: Sequence[FailingRow]) -> list[dict[str, Any]]:
    """Failing rows for programs: key, shards and offset ranges."""
    return [
        {
            "key": {name: _plain(value) for name, value in row.key.items()},
            "shards": list(row.origins),
            "offsets": [line for shard in row.origins for line in row.origins[shard][:_RANGES]],
        }
        for row in shown
    ]


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return value.isoformat() if isinstance(value, date) else str(value)


def _cell(value: Any) -> str:
    text = "null" if value is None else str(_plain(value))
    text = text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("\r", " ")
    return text if len(text) <= _CELL else f"{text[: _CELL - 1]}…"
