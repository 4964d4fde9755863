"""The largest event time of a batch, for end-of-input markers: only times that a worker takes for valid count."""

from __future__ import annotations

from datetime import UTC, date, datetime, time

import pyarrow as pa

from headrace.clock import SYSTEM_CLOCK, Clock
from schemas.avro import AvroSchema
from topology import Topic, duck, duration
from topology.route import event_micros

_ZONE = r"'\d\d:\d\d.*[+-]\d\d(:?\d\d)?$'"


class EventTimes:
    """Event times of one topic's records, in DuckDB, as the workers compute them."""

    def __init__(self, topic: Topic, schema: AvroSchema, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._ahead = duration.micros(topic.max_ahead)
        self._from = _micros(topic.not_before)
        self._column = topic.event_time.column
        self._duck = duck.connect()
        kind = schema.by_name[self._column].kind
        self._sql = (
            f"select max(t) from (select *, {event_micros(topic.event_time, kind)} as t from times) "
            f"where t between $low and $high{_has_zone(topic)}"
        )

    def largest(self, frame: pa.RecordBatch) -> int | None:
        """Microseconds since 1970-01-01 UTC; None when no row has a valid time."""
        times = pa.table({self._column: frame.column(self._column)})
        self._duck.register("times", times)
        high = int(self._clock.now().timestamp() * 1_000_000) + self._ahead
        ((largest,),) = self._duck.execute(self._sql, {"low": self._from, "high": high}).fetchall()
        return None if largest is None else int(largest)


def _has_zone(topic: Topic) -> str:
    """A text without zone is nobody's moment, unless the topic declares the zone."""
    if topic.event_time.format != "iso8601" or topic.event_time.zone is not None:
        return ""
    column = duck.quoted(topic.event_time.column)
    return f" and (ends_with({column}, 'Z') or regexp_matches({column}, {_ZONE}))"


def _micros(day: str | None) -> int:
    if day is None:
        return -(2**62)
    return int(datetime.combine(date.fromisoformat(day), time(), UTC).timestamp()) * 1_000_000
