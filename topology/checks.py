"""What can be wrong with a declaration besides its SQL: names, durations, dates, the event time, group columns.

Every error is one line: place, declaration, what is wrong, remedy.
"""

from __future__ import annotations

import datetime
import re
import zoneinfo
from collections.abc import Collection, Sequence

from headrace.errors import DeclarationError
from schemas.avro import AvroSchema, did_you_mean, load
from topology.aggregate import Aggregate
from topology.duration import micros
from topology.latest import Latest
from topology.state import PLAIN
from topology.topic import EventTime, Topic
from topology.window import Count, Session, TimeWindow, Tumbling
from topology.windowing import check_zone

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
TOPIC_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")
_POSTGRES_NAME = 63
_VERSION_SUFFIX = len("__") + 12 + len("__part")  # of the table's state tables
_STATE_SUFFIXES = ("__sum", "__count", "__squares", "__time", "__offset")
_TABLE_COLUMNS = {"shard", "gen", "window_start", "window_end", "windowstart", "windowend"}
_COUNTED_COLUMNS = {"window_number", "window_records", "windownumber", "windowrecords"}  # of windows of records
_FRAME_COLUMN = re.compile(r"(?i)_i|_ts|_offset|_deleted|_event_time|_topic_reason|_x\d+|_found\d+")
KEY_TYPES = {**PLAIN, "BOOLEAN": "boolean"}
_TIME_KINDS = {
    "iso8601": {"string"},
    "s": {"int", "long"},
    "ms": {"int", "long", "timestamp-millis"},
    "us": {"int", "long", "timestamp-micros"},
}


def duration(text: str, place: str) -> int:
    """Microseconds; a `DeclarationError` starting with `place` for a text that is no duration."""
    try:
        return micros(text)
    except DeclarationError as error:
        raise DeclarationError(f"{place}: {error}") from error


def day_micros(day: str, place: str) -> int:
    """Microseconds since 1970 of a UTC day such as 2026-01-01."""
    try:
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", day):
            raise ValueError(day)
        at = datetime.date.fromisoformat(day)
    except ValueError as error:
        raise DeclarationError(f'{place}: "{day}" is not a day; write it as 2026-01-31') from error
    return (at - datetime.date(1970, 1, 1)).days * 86_400_000_000


def check_topic(topic: Topic, schema: AvroSchema, place: str) -> None:
    """Everything of a topic but its `require` conditions."""
    where = f"{place}: {topic.name}"
    for name, what in (
        (topic.name, "topic name"),
        (topic.dead_letters or "x", "dead_letters"),
        (topic.pipeline_name, "pipeline"),
    ):
        if not TOPIC_NAME.fullmatch(name):
            raise DeclarationError(f'{where}: {what} "{name}" does not fit; use letters, digits, ".", "_" and "-"')
    if topic.partitions < 1:
        raise DeclarationError(f"{where}.partitions: {topic.partitions} is too few; a topic has 1 or more")
    if topic.format not in ("avro", "json"):
        raise DeclarationError(f'{where}.format: "{topic.format}" is unknown; use avro or json')
    octets = [field.name for field in schema.fields if field.kind == "bytes"]
    if topic.format == "json" and octets:
        raise DeclarationError(f'{where}.format: JSON has no bytes, as "{octets[0]}" is; make it a string, or use avro')
    _check_schema(schema, f"schemas/{topic.schema}" if topic.schema else f"{where}.columns")
    for name in topic.key_columns:
        _check_column(name, schema, topic.shape_name, f"{where}.key")
    _check_event_time(topic.event_time, schema, topic.shape_name, f"{where}.event_time")
    duration(topic.max_ahead, f"{where}.max_ahead")
    if topic.retention is not None:
        duration(topic.retention, f"{where}.retention")
    if topic.not_before is not None:
        day_micros(topic.not_before, f"{where}.not_before")
    for column in topic.not_finite:
        _check_column(column, schema, topic.shape_name, f"{where}.not_finite")
        if schema.by_name[column].kind not in {"float", "double"}:
            raise DeclarationError(f'{where}.not_finite: column "{column}" is no float; leave it out')
    for name in topic.require:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise DeclarationError(f'{where}.require: name "{name}" does not fit; use letters, digits, "_" and "-"')


def check_emitted(topic: str, partitions: int, place: str) -> None:
    """Name and partitions of a topic that a table emits to."""
    if not TOPIC_NAME.fullmatch(topic):
        raise DeclarationError(f'{place}.topic: "{topic}" does not fit; use letters, digits, ".", "_" and "-"')
    if partitions < 0:
        raise DeclarationError(f"{place}.partitions: {partitions} is too few; a topic has 1 or more")


def schema_of(topic: Topic, place: str) -> AvroSchema:
    """The schema of a topic's records."""
    if not topic.schema:
        return topic.shape
    try:
        return load(topic.schema)
    except DeclarationError as error:
        raise DeclarationError(f"{place}: {topic.name}.schema: {error}") from error


def _check_schema(schema: AvroSchema, place: str) -> None:
    seen: dict[str, str] = {}
    for field in schema.fields:
        other = seen.setdefault(field.name.lower(), field.name)
        if other != field.name:
            raise DeclarationError(f'{place}: fields "{other}" and "{field.name}" differ only in case; rename one')
        if _FRAME_COLUMN.fullmatch(field.name):
            raise DeclarationError(f'{place}: field name "{field.name}" is reserved; rename it')


def _check_column(name: str, schema: AvroSchema, path: str, place: str) -> None:
    if name not in schema.by_name:
        hint = did_you_mean(name, [field.name for field in schema.fields])
        raise DeclarationError(f'{place}: column "{name}" does not exist in {path}{hint}')


def _check_event_time(event_time: EventTime, schema: AvroSchema, path: str, place: str) -> None:
    _check_column(event_time.column, schema, path, place)
    kind = schema.by_name[event_time.column].kind
    if event_time.format not in _TIME_KINDS:
        raise DeclarationError(f'{place}: format "{event_time.format}" is unknown; use iso8601, ms, us or s')
    if kind not in _TIME_KINDS[event_time.format]:
        fits = " or ".join(name for name, kinds in _TIME_KINDS.items() if kind in kinds)
        remedy = f"use {fits}" if fits else "use a string, int, long or timestamp column"
        raise DeclarationError(
            f'{place}: format "{event_time.format}" does not fit column "{event_time.column}" of type {kind}; {remedy}'
        )
    if event_time.zone is not None and event_time.format != "iso8601":
        raise DeclarationError(
            f"{place}: zone is for texts; {event_time.format} counts from 1970 in UTC, leave zone out"
        )
    if event_time.zone is not None:
        _check_zone_name(event_time.zone, place)


def _check_zone_name(zone: str, place: str) -> None:
    known = zoneinfo.available_timezones()
    if zone not in known:
        hint = did_you_mean(zone, sorted(known)) if "/" in zone else ""
        hint = hint if "did you mean" in hint else '; use an IANA name, such as "Europe/Amsterdam"'
        raise DeclarationError(f'{place}: time zone "{zone}" is unknown{hint}')


def check_table(table: Aggregate, topic: Topic, schema: AvroSchema, place: str) -> None:
    """Everything of a table but its SQL texts."""
    where = f"{place}: {table.name}"
    check_table_name(table.name, where)
    if not table.by and table.window is None:
        raise DeclarationError(f"{where}.by: one row for all records is no table; name a group column or add a window")
    if not table.measures:
        raise DeclarationError(f'{where}.measures: there is none; add one, such as "records": "count(*)"')
    for name in table.by:
        check_key(name, topic, schema, f"{where}.by")
    counted = _COUNTED_COLUMNS if isinstance(table.window, Count) else set()
    check_column_names([*table.by, *table.measures, *table.derived], _TABLE_COLUMNS | counted, where)
    for name in table.measures:
        limit = _POSTGRES_NAME - max(map(len, _STATE_SUFFIXES))
        if not _NAME.fullmatch(name) or len(name) > limit or name.endswith(_STATE_SUFFIXES):
            raise DeclarationError(
                f'{where}.measures: name "{name}" does not fit; a letter, then letters, digits and "_", '
                f"{limit} at most, not ending in {' or '.join(_STATE_SUFFIXES)}"
            )
    for name in table.derived:
        check_column_name(name, f"{where}.derived")
    bound(table.fresh_within, f"{where}.fresh_within")
    bound(table.max_lag, f"{where}.max_lag")
    _check_window(table, topic, where)


def check_table_name(name: str, where: str) -> None:
    """A name that view, state tables and versions of a table can have."""
    _check_name(name, "table", where)


def _check_name(name: str, what: str, where: str) -> None:
    limit = _POSTGRES_NAME - _VERSION_SUFFIX
    if not _NAME.fullmatch(name) or len(name) > limit:
        raise DeclarationError(
            f'{where}: {what} name "{name}" does not fit; a letter, then letters, digits and "_", {limit} at most'
        )
    if name.lower().startswith("pg_"):
        raise DeclarationError(f'{where}: names that start with "pg_" belong to Postgres; rename the {what}')


def check_view_name(name: str, where: str, what: str = "view") -> None:
    """The name of a follow-on view, or of an archive, which its view in Postgres has too."""
    _check_name(name, what, where)


def check_column_name(name: str, where: str) -> None:
    """The name of a column that a declaration makes."""
    if not _NAME.fullmatch(name) or len(name) > _POSTGRES_NAME:
        raise DeclarationError(
            f'{where}: name "{name}" does not fit; a letter, then letters, digits and "_", {_POSTGRES_NAME} at most'
        )


def check_column_names(names: Sequence[str], reserved: Collection[str], where: str) -> None:
    """Columns of a view: each there once, none that the state table has for itself."""
    for name in names:
        if len([other for other in names if other.lower() == name.lower()]) > 1:
            raise DeclarationError(f'{where}: column "{name}" is there twice; rename one')
        if name.lower() in reserved:
            raise DeclarationError(f'{where}: column name "{name}" is reserved; rename it')


def bound(text: str, place: str) -> None:
    """A duration that ticks of the fleet can judge."""
    if duration(text, place) < 1_000_000:
        raise DeclarationError(f'{place}: "{text}" is less than a second; ticks come every 5 s, give it more')


def check_key(name: str, topic: Topic, schema: AvroSchema, place: str) -> None:
    """A group column: it exists, and equal values of it are equal bytes."""
    _check_column(name, schema, topic.shape_name, place)
    kind = schema.by_name[name].kind
    if kind in {"float", "double", "bytes"}:
        raise DeclarationError(f'{place}: column "{name}" is {kind}, which makes no groups; use a text, number or date')


def key_type(duck_type: str) -> str:
    """The Postgres type of a group column."""
    return KEY_TYPES.get(duck_type) or duck_type.replace("DECIMAL", "numeric")


def _check_window(table: Aggregate, topic: Topic, where: str) -> None:
    if table.late not in ("correct", "drop"):
        raise DeclarationError(f'{where}.late: "{table.late}" is unknown; use "correct" or "drop"')
    if table.late == "drop" and table.window is None:
        raise DeclarationError(
            f"{where}.late: a table without window has no record that is late; leave it out, or add a window"
        )
    if isinstance(table.window, Count):
        _check_counted(table, topic, where)
        return
    late = duration(table.allowed_lateness, f"{where}.allowed_lateness")
    if table.window is None:
        if late:
            raise DeclarationError(f"{where}.allowed_lateness: a table without window is never final; leave it out")
        return
    if not isinstance(table.window, TimeWindow):
        raise DeclarationError(
            f"{where}.window: {table.window!r} is no window; use Tumbling, Hopping, Session or Count"
        )
    if topic.not_before is None:
        raise DeclarationError(
            f"{where}.window: topic {topic.name} has no not_before, so the days of the table have no first one; "
            'declare it in the Topic, as in not_before="2026-01-01"'
        )
    if isinstance(table.window, Session):
        check_owned(table, topic, "a session", f"{where}.window")
    if isinstance(table.window, Tumbling) and table.window.zone is not None:
        _check_zone_name(table.window.zone, f"{where}.window")
        check_zone(table.window, day_micros(topic.not_before, f"{topic.name}.not_before"), f"{where}.window")


def _check_counted(table: Aggregate, topic: Topic, where: str) -> None:
    if table.late == "drop" or duration(table.allowed_lateness, f"{where}.allowed_lateness"):
        name = "late" if table.late == "drop" else "allowed_lateness"
        raise DeclarationError(f"{where}.{name}: windows of records go by offset, no record is late; leave it out")
    check_owned(table, topic, "a window", f"{where}.window")


def check_owned(table: Aggregate | Latest, topic: Topic, what: str, place: str) -> None:
    """The records of a row are in one partition, so that one worker sees them all (engine rule A2)."""
    if topic.key not in table.by:
        rekeyed = "" if not table.by else f', or read the records re-keyed: Derived(..., key="{table.by[0]}")'
        raise DeclarationError(
            f"{place}: records of {what} may be in several partitions, for {topic.name} has another key; add "
            f'"{topic.key}" to by{rekeyed}'
        )
