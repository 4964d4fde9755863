"""Alerts on transitions of a `Latest` -> the SQL that finds them among the versions of a batch.

A record is a transition when it is newer than all records of its key at smaller offsets of its partition: by then it is
the row. It stands beside the row before it, which is the newest of those records, so that alerts are a function of the
log, however it is cut (engine rule C6). The key's records are in one partition: the catalog refuses other tables.

In DuckDB: `versions` are all applied records and deletions of the batch, `before` the rows that the shard had of their
keys, both with the columns of the state; an offset is larger than all before it, so of equal event times the later
record is the newer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace

from headrace.errors import DeclarationError
from schemas.avro import AvroSchema, parse
from topology import checks
from topology.alert import Alert
from topology.derived_compile import KEY
from topology.derived_compile import check as check_derived
from topology.derived_schema import expression_of
from topology.duck import quoted
from topology.final_schema import field_of
from topology.latest import Latest
from topology.program import Column, PipelineProgram, TableProgram, TransitionProgram
from topology.transition import BEFORE, SINCE, TransitionTopic
from topology.types import Types, condition

_KNOWN, _HIGH = '"#known"', '"#high"'  # no column of a table has such a name
_SINCE = Column(SINCE, "TIMESTAMP WITH TIME ZONE", "timestamptz")


def shape_of(topic: TransitionTopic, program: TableProgram, place: str) -> AvroSchema:
    """What alerts see of the transitions of a compiled table; raises `DeclarationError`."""
    table = topic.of
    keys, values = program.key, [one for one in program.columns if one.name in table.measures]
    names = {column.name.lower() for column in program.columns}
    fields = [field_of(one, one not in keys, f"{place}: column {one.name}") for one in (*keys, *values)]
    fields.append(field_of(_SINCE, False, place))
    for one in values:
        before = replace(one, name=f"{BEFORE}{one.name}")
        if before.name.lower() in names:
            raise DeclarationError(
                f'{place}: column "{before.name}" has the name of what "{one.name}" was before; rename one in '
                f"the columns of {table.name}"
            )
        fields.append(field_of(before, True, f"{place}: column {one.name}"))
    return parse(json.dumps({"type": "record", "name": "Transition", "fields": fields}), place)


def compile_transition(alert: Alert, program: TableProgram, place: str) -> TransitionProgram:
    """How the alerts of a declared table's transitions are found; raises `DeclarationError` starting with `place`."""
    where, source = f"{place}: {alert.name}", alert.source
    assert isinstance(source, TransitionTopic)  # others have a worker group of their own
    checks.check_owned(source.of, source.of.source, "a row", f"{where}.source: {source.of.name}")
    check_derived(alert, place)
    shape = source.shape
    when = condition(alert.when, shape, source.shape_name, Types(shape), f"{where}.when")
    made = {name: expression_of(alert, name, shape, where) for name in alert.columns}
    if alert.shape.by_name[alert.key].nullable:
        raise DeclarationError(
            f'{where}.key: "{alert.key}" may be null; use a column that copies one of {", ".join(source.key_columns)}'
        )
    outputs = [
        f"concat($prefix, _offset) AS {quoted(field.name)}"
        if field.name == alert.identity
        else f"TRY({made[field.name].sql}) AS {quoted(field.name)}"
        for field in alert.shape.fields
    ]
    outputs.append(f"CAST(TRY({made[alert.key].sql}) AS VARCHAR) AS {KEY}")
    own = {column.name: column.name for column in program.columns}
    own |= {BEFORE + name: name for name in source.of.measures}
    lineage = {
        name: tuple(dict.fromkeys(own[column] for column in one.columns if column in own)) for name, one in made.items()
    }
    return TransitionProgram(alert, _steps(source.of, program) + _select(outputs, when.sql), lineage)


def with_transitions(
    pipelines: Mapping[str, PipelineProgram], alerts: Iterable[Alert], places: Mapping[int, str]
) -> dict[str, PipelineProgram]:
    """The pipelines, those of the alerts' tables with the alerts; raises `DeclarationError`."""
    found = dict(pipelines)
    for alert in sorted(alerts, key=lambda one: one.name):
        name, table = alert.maker, alert.source.name
        pipeline = found[name]
        tables = tuple(
            replace(one, transitions=(*one.transitions, compile_transition(alert, one, places[id(alert)])))
            if one.name == table
            else one
            for one in pipeline.tables
        )
        found[name] = replace(pipeline, tables=tables)
    return found


def _steps(table: Latest, program: TableProgram) -> str:
    """Newer rows by key, each beside the one before, as `steps`."""
    keys = ", ".join(quoted(column.name) for column in program.key)
    names = [quoted(name) for name in table.measures]
    before = [f"lag({quoted(name)}) OVER newer AS {quoted(BEFORE + name)}" for name in table.measures]
    columns = [keys, *names, *before, f"_event_time AS {quoted(SINCE)}", "_offset", "_deleted", _KNOWN]
    order = f"PARTITION BY {keys} ORDER BY NOT {_KNOWN}, _offset"
    return (
        f"WITH seen AS (\n    SELECT *, TRUE AS {_KNOWN} FROM before UNION ALL SELECT *, FALSE FROM versions\n),\n"
        f"ranked AS (\n    SELECT *, max(_event_time) OVER (\n        {order} ROWS BETWEEN UNBOUNDED PRECEDING AND"
        f" 1 PRECEDING\n    ) AS {_HIGH} FROM seen\n),\n"
        f"steps AS (\n    SELECT {', '.join(columns)}\n    FROM ranked\n"
        f"    WHERE {_HIGH} IS NULL OR _event_time >= {_HIGH}\n    WINDOW newer AS ({order})\n)\n"
    )


def _select(outputs: list[str], when: str) -> str:
    columns = ",\n    ".join(outputs)
    return (
        f"SELECT\n    {columns}\nFROM steps\nWHERE NOT {_KNOWN} AND NOT _deleted AND TRY({when}) IS TRUE\n"
        "ORDER BY _offset"
    )
