"""The rows of a table that a transaction may have changed -> the SQL that reads them, and the topic that they go to.

The staged rows of a batch are still there when they have been merged. They name the keys, and what the view shows of
each key then is sent: the row as it is now, or that there is none any more. A row has one writer, so the last record of
a key is the row (engine rule C5); a row that is sent as it was before is the same row.

The statements have the parameter `shard`. Each row: the record key, whether there is a row, the columns of the view
with moments in microseconds since 1970 and dates in days.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headrace.errors import DeclarationError
from topology import checks, postgres
from topology.aggregate import Aggregate
from topology.changes import Changes, topic_of
from topology.duck import quoted
from topology.duration import micros
from topology.final import Final
from topology.final_compile import windows
from topology.final_schema import rows_schema
from topology.final_sql import Stored, escaped, record_key
from topology.latest import Latest
from topology.program import ChangesProgram, Column
from topology.topic import Topic
from topology.window import Count, Hopping, Session, Tumbling

_BEGIN = "window_start"


def check(table: Aggregate | Latest, topic: Topic, place: str) -> None:
    """Everything of a table's `emit`; raises `DeclarationError`."""
    emit, where = table.emit, f"{place}: {table.name}.emit"
    if not isinstance(emit, Changes):
        raise DeclarationError(f'{where}: {emit!r} is nothing that can be emitted; use Changes(topic="...")')
    checks.check_emitted(emit.topic, emit.partitions, where)
    if isinstance(table, Latest) and table.history:
        raise DeclarationError(
            f"{where}: a history has all versions of a row, and its last one is the newest row; emit the changes of a "
            "second Latest without history"
        )
    checks.check_owned(table, topic, "a row", where)


def meaning(emit: Final | Changes | None) -> dict[str, list[Any]]:
    """What a table emits, for its version; nothing where it emits nothing."""
    if emit is None:
        return {}
    if isinstance(emit, Changes):
        return {"emit": ["changes", emit.topic, emit.partitions]}
    # The ledger reads in the third place after which time partitions are idle.
    return {"emit": [emit.topic, emit.partitions, *([micros(emit.idle_after)] if emit.idle_after else [])]}


def compile_changes(of: Stored, place: str) -> ChangesProgram:
    """How the changed rows of a checked table of aggregates are found and sent."""
    window, names = of.table.window, [quoted(column.name) for column in of.key]
    same = [f"s.{name} = k.{name}" for name in names]
    begin: Sequence[str] = [_BEGIN]
    if isinstance(window, Count):
        begin = ["window_number"]
        keys = _counted(of, names, window.records)
        found = of.select(*same, "s.window_number = k.window_number")
    elif isinstance(window, Tumbling | Hopping):
        keys, found = windows(window, names, of.stage), of.select_window()
    elif isinstance(window, Session):
        keys = f"SELECT DISTINCT {', '.join([*names, _BEGIN])} FROM {of.stage}"
        found = of.select_window()
    else:
        begin = []
        keys = f"SELECT DISTINCT {', '.join(names)} FROM {of.stage}"
        found = of.select(*same)
    texts = [f"k.{name}::text" for name in names] + [_text(name) for name in begin]
    source = f"({keys}) AS k\nLEFT JOIN LATERAL (\n{found}\n) AS v ON true"
    return _program(of.table, of.columns, texts, f"v.{names[0]} IS NOT NULL", source, place)


def compile_newest(
    latest: Latest,
    state_table: str,
    stage: str,
    key: Sequence[Column],
    columns: Sequence[Column],
    place: str,
) -> ChangesProgram:
    """How the changed rows of a checked table of newest rows are found and sent."""
    names = [quoted(column.name) for column in key]
    newest = (
        f"SELECT * FROM {state_table} AS s WHERE {' AND '.join(f's.{name} = k.{name}' for name in names)}\n"
        "ORDER BY s._event_time DESC, s.shard DESC, s._offset DESC LIMIT 1"
    )
    source = f"(SELECT DISTINCT {', '.join(names)} FROM {stage}) AS k\nCROSS JOIN LATERAL (\n{newest}\n) AS v"
    return _program(latest, columns, [f"k.{name}::text" for name in names], "NOT v._deleted", source, place)


def _program(
    table: Aggregate | Latest, columns: Sequence[Column], texts: Sequence[str], there: str, source: str, place: str
) -> ChangesProgram:
    assert isinstance(table.emit, Changes)  # checked
    topic = topic_of(table, table.emit)
    values = [postgres.numbered(one, f"v.{quoted(one.name)}") for one in columns]
    made = topic.known(rows_schema(topic, columns, [], place))
    return ChangesProgram(made, escaped(f"SELECT {record_key(texts)}, {there}, {', '.join(values)}\nFROM {source}"))


def _counted(of: Stored, names: Sequence[str], size: int) -> str:
    """The windows into which the staged records went: the last ones of their keys, as many as these records fill."""
    keys = ", ".join(names)
    same = " AND ".join([*(f"t.{name} = n.{name}" for name in names), "t.shard = %(shard)s"])
    last = (
        f"SELECT t.window_number * {size} + t.window_records AS counted FROM {of.state_table} AS t WHERE {same}\n"
        "ORDER BY t.window_number DESC LIMIT 1"
    )
    return (
        f"SELECT {', '.join(f'n.{name}' for name in names)}, w.window_number\n"
        f"FROM (SELECT {keys}, count(*) AS staged FROM {of.stage} GROUP BY {keys}) AS n\n"
        f"CROSS JOIN LATERAL (\n{last}\n) AS l\n"
        f"CROSS JOIN LATERAL generate_series((l.counted - n.staged) / {size}, (l.counted - 1) / {size})"
        " AS w(window_number)"
    )


def _text(name: str) -> str:
    """The text of a window's number, or of its start in UTC whatever the session's time zone."""
    if name != _BEGIN:
        return f"k.{name}::text"
    return f"to_char(k.{name} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
