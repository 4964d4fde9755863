"""The largest event time of a batch, for end-of-input markers: only times that a worker takes for valid count."""

from __future__ import annotations

from datetime import UTC, date, datetime, time

import pyarrow as pa

from headrace.clock import SYSTEM_CLOCK, Clock
from schemas.avro import AvroSchema
from topology import Topic, duck, duration

_PER_UNIT = {"s": 1_000_000, "ms": 1_000, "us": 1}
_ZONED = r"([zZ]|[+-]\d{2}(:?\d{2})?)\s*$"


class EventTimes:
    """Event times of one topic's records, in DuckDB, as the workers compute them."""

    def __init__(self, topic: Topic, schema: AvroSchema, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._ahead = duration.micros(topic.max_ahead)
        self._from = _micros(topic.not_before)
        self._column = topic.event_time.column
        self._duck = duck.connect()
        self._sql = (
            f"select max(t) from (select {_expression(topic, schema)} as t from times) where t between $low and $high"
        )

    def largest(self, frame: pa.RecordBatch) -> int | None:
        """Microseconds since 1970-01-01 UTC; None when no row has a valid time."""
        times = pa.table({self._column: frame.column(self._column)})
        self._duck.register("times", times)
        high = int(self._clock.now().timestamp() * 1_000_000) + self._ahead
        ((largest,),) = self._duck.execute(self._sql, {"low": self._from, "high": high}).fetchall()
        return None if largest is None else int(largest)


def _expression(topic: Topic, schema: AvroSchema) -> str:
    """Microseconds as BIGINT, null for a time that is none."""
    event_time = topic.event_time
    column = duck.quoted(event_time.column)
    if schema.by_name[event_time.column].kind.startswith("timestamp-"):
        return f"epoch_us({column})"
    if event_time.format != "iso8601":
        return f"try({column}::bigint * {_PER_UNIT[event_time.format]})"
    zoned = f"try_cast({column} as timestamptz)"
    if event_time.zone:
        local = f"timezone({duck.text(event_time.zone)}, try_cast({column} as timestamp))"
        zoned = f"case when regexp_matches({column}, {duck.text(_ZONED)}) then {zoned} else {local} end"
    else:
        zoned = f"case when regexp_matches({column}, {duck.text(_ZONED)}) then {zoned} end"
    return f"try(epoch_us({zoned}))"


def _micros(day: str | None) -> int:
    if day is None:
        return -(2**62)
    return int(datetime.combine(date.fromisoformat(day), time(), UTC).timestamp()) * 1_000_000
