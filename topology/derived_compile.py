"""A derived topic -> how its records are routed and made: a table's program whose rows are the records.

Row expressions run in DuckDB, as for tables: `x<index>` of `routed` where one is more than a column of the source. The
rows have the columns of the schema, then `_key` VARCHAR and `_ts` BIGINT, the Kafka timestamp of the source's record.
The field of an alert's id holds the offset as text until the batch, which knows its partition, makes the id of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Protocol

from headrace.errors import DeclarationError
from schemas.avro import AvroSchema
from topology import checks
from topology.derived import Derived
from topology.derived_schema import check_declared, copied, expression_of, schema_of
from topology.duck import quoted, text
from topology.expression import Expression, substituted
from topology.final import WITHDRAWN, FinalTopic
from topology.program import Column, Part, TableProgram
from topology.route import TableRoute, Tried
from topology.topic import Topic
from topology.types import Types, condition

KEY, TIMESTAMP = "_key", "_ts"
_KEYS = {"string", "enum", "int", "long", "date"}


class Tries(Protocol):
    """What evaluates each distinct expression of a pipeline once."""

    def attempt(self, expression: Expression, place: str) -> Tried:
        """The expression among those evaluated for every record."""
        ...

    def condition(self, sql: str, place: str) -> Expression:
        """`sql` as a condition over the source's record."""
        ...


def check(derived: Derived, place: str) -> None:
    """Everything of a derived topic, its columns included; raises `DeclarationError`."""
    where = f"{place}: {derived.name}"
    source = derived.source
    _check_identity(derived, where)
    made = schema_of(derived, place)
    if derived.schema:
        check_declared(derived, checks.schema_of(derived, place), made, where)
    if not derived.event_time.column:
        raise DeclarationError(
            f'{where}.columns: no column is the source\'s event time; add "{source.event_time.column}": '
            f'"{source.event_time.column}", or declare event_time'
        )
    checks.check_topic(derived, derived.shape, place)
    kind = derived.shape.by_name[derived.key].kind
    if kind not in _KEYS:
        raise DeclarationError(
            f'{where}.key: "{derived.key}" is {kind}, no record key; cast it in columns, as in cast(... as varchar)'
        )
    if not checks.TOPIC_NAME.fullmatch(derived.maker):
        raise DeclarationError(
            f'{where}.made_by: "{derived.maker}" does not fit; use letters, digits, ".", "_" and "-"'
        )
    if derived.beside:
        _check_beside(derived, where)
    elif source.dead_letters is None:
        raise DeclarationError(
            f"{where}: its source {source.name} has no dead_letters, the topic for records that cannot be taken; "
            f'declare it in the {_declared_in(source)}, as in dead_letters="failed-{source.name}"'
        )
    for name, bound in (("fresh_within", derived.fresh_within), ("max_lag", derived.max_lag)):
        checks.bound(bound, f"{where}.{name}")


def _check_beside(derived: Derived, where: str) -> None:
    """What the worker of a table makes beside it has no dead letters and no worker group of its own."""
    if derived.require:
        raise DeclarationError(f"{where}.require: transitions have no dead letters; say it in when")
    if derived.made_by:
        raise DeclarationError(
            f"{where}.made_by: the worker of {derived.source.name} makes it, as part of the table's work; leave it out"
        )


def _declared_in(source: Topic) -> str:
    return "table's Final" if isinstance(source, FinalTopic) else "Topic"


def _check_identity(derived: Derived, where: str) -> None:
    if derived.identity is None:
        return
    if derived.identity in derived.columns:
        raise DeclarationError(
            f'{where}.columns: "{derived.identity}" is the id that every alert has; name the column otherwise'
        )
    if not derived.key and len(derived.source.key_columns) != 1:
        raise DeclarationError(
            f"{where}.key: the key of {derived.source.name} is made of {len(derived.source.key_columns)} columns; say "
            "which of the alert's fields is its key"
        )
    if not derived.key:
        raise DeclarationError(
            f'{where}.columns: no column is the source\'s key; add "{derived.source.key}": "{derived.source.key}", or '
            "declare key"
        )


def compile_derived(
    derived: Derived, source: AvroSchema, prefix: str, tries: Tries, topic: dict[str, Any], place: str
) -> tuple[TableRoute, TableProgram]:
    """How a checked derived topic is made. topic: the meaning of the source's own rules, for the version."""
    where = f"{place}: {derived.name}"
    expressions = {name: expression_of(derived, name, source, where) for name in derived.columns}
    tried = {name: tries.attempt(one, f"{where}.columns.{name}") for name, one in expressions.items()}
    rejecting = None
    if derived.where is not None:
        passing = tries.condition(derived.where, f"{where}.where")
        if derived.identity and _withdraws(derived.source):
            passing = tries.condition(f"not {WITHDRAWN} and (\n{derived.where}\n)", f"{where}.where")
        rejecting = tries.attempt(passing, f"{where}.where")
    _check_withdrawn(derived, [*expressions.values(), *([rejecting.expression] if rejecting else [])], where)
    values = {name: one.value for name, one in tried.items()}
    route = TableRoute(
        prefix=prefix,
        null_keys=(),
        texts=(),
        measures=tuple((name, tried[name].index) for name, one in expressions.items() if copied(one, source) is None),
        where=rejecting.index if rejecting else None,
        window_micros=None,
        reasons=tuple(_unless_left_out(derived, rejecting, _reasons(derived, tried, values, where))),
    )
    outputs = {
        name: f"f.{quoted(one.columns[0])}" if copied(one, source) else f"r.x{tried[name].index}"
        for name, one in expressions.items()
    }
    if derived.identity:
        outputs[derived.identity] = "CAST(f._offset AS VARCHAR)"
    definition = {
        "derived": derived.name,
        "topic": derived.source.name,
        "columns": {name: one.canonical for name, one in expressions.items()},
        "schema": derived.shape.parsed,
        "key": derived.key,
        "where": rejecting.expression.canonical if rejecting else None,
        "require": dict(derived.require),
        "partitions": derived.partitions,
        "format": derived.format,
        "source": topic,
    }
    if derived.identity:
        definition["identity"] = derived.identity
    canonical = json.dumps(definition, sort_keys=True, separators=(",", ":"))
    program = TableProgram(
        table=derived,
        prefix=prefix,
        version=hashlib.sha256(canonical.encode()).hexdigest()[:12],
        parts=(Part("", "", _rows_sql(derived, outputs, prefix), "", "", ()),),
        key=(),
        states=(),
        columns=tuple(Column(field.name, str(field.kind), "") for field in derived.shape.fields),
        window_micros=None,
        lateness_micros=0,
        final_sql=None,
        view_ddl="",
        lineage={name: one.columns for name, one in expressions.items()},
        definition=definition,
    )
    return route, program


def _reasons(
    derived: Derived, tried: dict[str, Tried], values: dict[str, str], where: str
) -> Sequence[tuple[str, str]]:
    """Why a record that every expression takes is refused nevertheless."""
    shape, source = derived.shape, derived.source.shape
    found = []
    for field in shape.fields:
        if field.kind != "enum":
            continue
        same = copied(tried[field.name].expression, source)
        if same is None or not set(same.symbols) <= set(field.symbols) or same.kind != "enum":
            symbols = ", ".join(map(text, field.symbols))
            found.append((f"{values[field.name]} NOT IN ({symbols})", f"not_in_enum:{field.name}"))
    if shape.by_name[derived.key].nullable:
        found.append((f"{values[derived.key]} IS NULL", f"null_key:{derived.key}"))
    for name, rule in derived.require.items():
        place = f"{where}.require.{name}"
        condition(rule, shape, derived.shape_name, Types(shape), place)
        sql = substituted(rule, values, shape, derived.shape_name, place)
        found.append((f"TRY({sql}) IS NOT TRUE", f"require:{name}"))
    return found


def _withdraws(source: Topic) -> bool:
    return isinstance(source, FinalTopic) and source.withdraws


def _check_withdrawn(derived: Derived, expressions: Sequence[Expression], where: str) -> None:
    """A topic made of sessions says what becomes of those that are no more; of an alert it is known: there is none."""
    if _withdraws(derived.source) and not any(WITHDRAWN in one.columns for one in expressions):
        raise DeclarationError(
            f"{where}: rows of sessions may be withdrawn, and it would keep those that are; pass that on, with "
            f'"{WITHDRAWN}": "{WITHDRAWN}" in columns, or leave them out, with where="not {WITHDRAWN}"'
        )


def _unless_left_out(
    derived: Derived, rejecting: Tried | None, reasons: Sequence[tuple[str, str]]
) -> Sequence[tuple[str, str]]:
    """A withdrawn row has no measures to be judged by; where it is left out anyway, it is `filtered`."""
    if rejecting is None or not _withdraws(derived.source):
        return reasons
    taken = f"NOT ({quoted(WITHDRAWN)} AND {rejecting.value} IS NOT TRUE)"
    return [(f"{taken} AND ({sql})", reason) for sql, reason in reasons]


def _rows_sql(derived: Derived, outputs: dict[str, str], prefix: str) -> str:
    columns = [f"{outputs[field.name]} AS {quoted(field.name)}" for field in derived.shape.fields]
    columns += [f"CAST({outputs[derived.key]} AS VARCHAR) AS {KEY}", f"f._ts AS {TIMESTAMP}"]
    names = ",\n    ".join(columns)
    return f"SELECT {names}\nFROM frame AS f POSITIONAL JOIN routed AS r\nWHERE r.{prefix}applied"


def source_rules(
    topic: Topic, require: Sequence[tuple[str, Expression]], max_ahead: int, not_before: int | None
) -> dict[str, Any]:
    """What of the source decides which records are valid."""
    when = topic.event_time
    return {
        "event_time": [when.column, when.format, when.zone],
        "require": [[name, one.canonical] for name, one in require],
        "max_ahead": max_ahead,
        "not_before": not_before,
        "not_finite": sorted(topic.not_finite),
    }
