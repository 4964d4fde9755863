"""The DuckDB SQL that gives every record its fate and adds up those that are applied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schemas.avro import AvroSchema
from topology import windowing
from topology.duck import quoted, text
from topology.expression import Expression
from topology.topic import EventTime, Topic

# A zone at the end of an ISO 8601 time: Z, +02, +0200 or +02:00 (a date alone ends in -01, which is none).
_ZONE = r"'\d\d:\d\d.*[+-]\d\d(:?\d\d)?$'"
_NO_ZONE = "'^[-0-9T :.]+$'"  # digits only: TIMESTAMP would skip over a zone it does not use
_UNITS = {"s": 1_000_000, "ms": 1_000, "us": 1}
KEY_BYTES = 2_000  # an entry of a Postgres index holds 2,704 bytes


@dataclass(frozen=True)
class TextCheck:
    """A text on its way to Postgres: the SQL value and the reasons for refusing it; `key`: the group column it is."""

    value: str
    nul: str
    too_long: str | None = None
    limit: int = KEY_BYTES
    key: str | None = None


def key_checks(names: Sequence[str]) -> list[TextCheck]:
    """What must hold for the free texts of a table's key, which share an entry of an index."""
    limit = KEY_BYTES // max(1, len(names))
    return [TextCheck(quoted(name), f"nul_in_key:{name}", f"key_too_long:{name}", limit, key=name) for name in names]


@dataclass(frozen=True)
class TableRoute:
    """What decides a record's fate in one table. measures: each measure's name and the index of its expression.

    reasons: further conditions, in terms of the CTE `tried`, with the reasons for refusing a record; lookups: those
    that come before all others. window_micros: size of the panes that windows are made of, by the clocks of `zone`,
    if any.
    """

    prefix: str
    null_keys: tuple[str, ...]
    texts: tuple[TextCheck, ...]
    measures: tuple[tuple[str, int], ...]
    where: int | None
    window_micros: int | None
    reasons: tuple[tuple[str, str], ...] = ()
    zone: str | None = None
    lookups: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Tried:
    """A row expression as column `x<index>` of `routed`; `can_fail` False for a column as it is."""

    index: int
    expression: Expression
    duck_type: str
    not_null: tuple[str, ...]
    finite: bool

    @property
    def can_fail(self) -> bool:
        """Whether evaluating it can fail at all."""
        return self.expression.sql != quoted(next(iter(self.expression.columns), ""))

    @property
    def column(self) -> str:
        """Its definition in the CTE `tried`: TRY gives null for an error; a struct tells an error from a null."""
        sql = self.expression.sql
        return f"TRY(struct_pack(v := {sql})) AS _x{self.index}" if self._boxed else f"TRY({sql}) AS _x{self.index}"

    @property
    def value(self) -> str:
        """Its value in terms of the CTE `tried`."""
        return f"_x{self.index}.v" if self._boxed else f"_x{self.index}"

    @property
    def failed(self) -> str:
        """Condition in terms of the CTE `tried`: an error, or a null out of values that nobody asked for."""
        null = " AND ".join([f"_x{self.index} IS NULL", *([] if self._boxed else self.not_null)])
        return f"{null} OR NOT isfinite({self.value})" if self.finite else null

    @property
    def _boxed(self) -> bool:
        return self.expression.asks_for_null


def event_micros(event_time: EventTime, kind: str) -> str:
    """SQL: microseconds since 1970 UTC as BIGINT, null for what cannot be read."""
    column = quoted(event_time.column)
    if kind.startswith("timestamp"):
        return f"epoch_us({column})"
    if event_time.format != "iso8601":
        return f"TRY(CAST({column} AS BIGINT) * {_UNITS[event_time.format]})"
    instant = f"epoch_us(TRY_CAST({column} AS TIMESTAMPTZ))"
    if event_time.zone is None:
        return instant
    local = f"epoch_us(timezone({text(event_time.zone)}, TRY_CAST({column} AS TIMESTAMP)))"
    return (
        f"CASE WHEN ends_with({column}, 'Z') OR regexp_matches({column}, {_ZONE}) THEN {instant} "
        f"WHEN regexp_matches({column}, {_NO_ZONE}) THEN {local} END"
    )


@dataclass(frozen=True)
class TopicRoute:
    """What decides whether a record of a topic is valid at all."""

    topic: Topic
    schema: AvroSchema
    require: tuple[tuple[str, Expression], ...]
    max_ahead: int
    not_before: int | None


def route_sql(of: TopicRoute, tried: Sequence[Tried], tables: Sequence[TableRoute], *, keys_fit: bool = False) -> str:
    """SQL that makes `routed` from `frame` (see `topology.program.PipelineProgram`).

    keys_fit: leave out the conditions on the texts of group columns, which `topology.texts.fit` has found to hold.
    """
    kind = of.schema.by_name[of.topic.event_time.column].kind
    outputs = ["_i", "_event_time AS event_time", "_topic_reason AS topic_reason"]
    applied = []
    for table in tables:
        outputs += _table_columns(table, tried, keys_fit)
        conditions = ["topic_reason IS NULL", f"{table.prefix}reason IS NULL"]
        conditions += [f"{table.prefix}where IS TRUE"] if table.where is not None else []
        applied.append(f"({' AND '.join(conditions)}) AS {table.prefix}applied")
    used = sorted({index for table in tables for _, index in table.measures})
    outputs += [f"{tried[index].value} AS x{index}" for index in used]
    columns = ["*", f"{_case(_topic_reasons(of))} AS _topic_reason"]
    return (
        "CREATE OR REPLACE TEMP TABLE routed AS\n"
        f"WITH timed AS (\n  SELECT *, {event_micros(of.topic.event_time, kind)} AS _event_time\n  FROM frame\n),\n"
        f"tried AS (\n  SELECT {_list([*columns, *(one.column for one in tried)])}\n  FROM timed\n),\n"
        f"judged AS (\n  SELECT {_list(outputs)}\n  FROM tried\n)\n"
        f"SELECT {_list(['*', *applied])}\nFROM judged"
    )


def _topic_reasons(of: TopicRoute) -> list[tuple[str, str]]:
    """Conditions and reasons, in the order in which the first that holds is the record's."""
    topic, not_before = of.topic, of.not_before
    column = quoted(topic.event_time.column)
    reasons = [("_event_time IS NULL", "bad_time")]
    if topic.event_time.format == "iso8601" and topic.event_time.zone is None:
        reasons.append((f"NOT ends_with({column}, 'Z') AND NOT regexp_matches({column}, {_ZONE})", "no_time_zone"))
    if not_before is not None:
        reasons.append((f"_event_time < {not_before}", "before_start"))
    reasons.append((f"_event_time > _ts * 1000 + {of.max_ahead}", "too_far_ahead"))
    floats = [field.name for field in of.schema.fields if field.kind in {"float", "double"}]
    finite = [name for name in floats if name not in topic.not_finite]
    reasons += [(f"NOT isfinite({quoted(name)})", f"not_finite:{name}") for name in finite]
    reasons += [(f"TRY({condition.sql}) IS NOT TRUE", f"require:{name}") for name, condition in of.require]
    return reasons


def _table_columns(table: TableRoute, tried: Sequence[Tried], keys_fit: bool) -> list[str]:
    reasons = [*table.lookups, *((f"{quoted(name)} IS NULL", f"null_key:{name}") for name in table.null_keys)]
    for check in table.texts:
        if check.key and keys_fit:
            continue
        reasons.append((f"contains({check.value}, chr(0))", check.nul))
        if check.too_long:
            reasons.append((f"strlen({check.value}) > {check.limit}", check.too_long))
    failing = {index: name for name, index in reversed(table.measures) if tried[index].can_fail}
    reasons += [(tried[index].failed, f"expression:{failing[index]}") for index in sorted(failing)]
    if table.where is not None and tried[table.where].can_fail:
        reasons.append((tried[table.where].failed, "expression:where"))
    reasons += table.reasons
    reason = _case([("_topic_reason IS NOT NULL", None), *reasons]) if reasons else "CAST(NULL AS VARCHAR)"
    columns = [f"{reason} AS {table.prefix}reason"]
    columns.append(f"{'TRUE' if table.where is None else tried[table.where].value} AS {table.prefix}where")
    if table.window_micros is not None:
        columns += windowing.columns(table.window_micros, table.zone, table.prefix)
    return columns


def counts_sql(finals: Mapping[str, str | None]) -> str:
    """One row of counts over `routed` (see `topology.program.PipelineProgram`); finals: `final_sql` by prefix."""
    columns = [
        "count(*) AS records",
        "count(topic_reason) AS topic_bad",
        "max(event_time) FILTER (WHERE topic_reason IS NULL) AS max_valid_event",
    ]
    for p, final in finals.items():
        columns += [
            f"count(topic_reason) + count({p}reason) AS {p}dead",
            f"count(*) - count(topic_reason) - count({p}reason) - count(*) FILTER (WHERE {p}applied) AS {p}filtered",
            f"count(*) FILTER (WHERE {p}applied) AS {p}applied",
            f"min(event_time) FILTER (WHERE {p}applied) AS {p}min_event",
            f"max(event_time) FILTER (WHERE {p}applied) AS {p}max_event",
            f"{f'min({final}) FILTER (WHERE {p}applied)' if final else 'NULL'} AS {p}min_final",
        ]
    return f"SELECT {_list(columns)}\nFROM routed"


def reasons_sql(prefixes: Sequence[str]) -> str:
    """The records of `routed` that are dead letters of any table, with their reasons."""
    columns = ["topic_reason", *(f"{p}reason" for p in prefixes)]
    condition = " OR ".join(f"{column} IS NOT NULL" for column in columns)
    return f"SELECT _i, {', '.join(columns)}\nFROM routed\nWHERE {condition}\nORDER BY _i"


def aggregate_sql(keys: Sequence[str], prefix: str, windowed: bool, states: Sequence[tuple[str, str]]) -> str:
    """Partial aggregates of the applied records; states: column name and its DuckDB aggregate."""
    groups = [f"f.{quoted(key)}" for key in keys]
    columns = list(groups)
    if windowed:
        columns.append(f"make_timestamptz(r.{prefix}window) AS window_start")
        groups.append(f"r.{prefix}window")
    columns += [f"{aggregate} AS {quoted(name)}" for name, aggregate in states]
    by = ", ".join(groups)
    return (
        f"SELECT {_list(columns)}\nFROM frame AS f POSITIONAL JOIN routed AS r\n"
        f"WHERE r.{prefix}applied\nGROUP BY {by}\nORDER BY {by}"
    )


def _case(reasons: Sequence[tuple[str, str | None]]) -> str:
    lines = [f"WHEN {condition} THEN {text(reason) if reason else 'NULL'}" for condition, reason in reasons]
    return "CASE " + "\n      ".join(lines) + " END"


def _list(columns: Sequence[str]) -> str:
    return ",\n    ".join(columns)
