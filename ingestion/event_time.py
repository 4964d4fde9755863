"""The largest event time of a batch, for end-of-input markers: only records that a worker takes for valid count."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from headrace.clock import SYSTEM_CLOCK, Clock
from topology import Topic, compile_pipeline, duck


class EventTimes:
    """Judges one topic's records as its workers do, with the SQL that they run; no table has a say in it."""

    def __init__(self, topic: Topic, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._program = compile_pipeline(topic.pipeline_name, topic, (), place=topic.name)
        self._duck = duck.connect()

    def largest(self, frame: pa.RecordBatch) -> int | None:
        """Microseconds since 1970-01-01 UTC; None when no row is valid."""
        rows = frame.num_rows
        now = np.full(rows, int(self._clock.now().timestamp() * 1_000))  # about what Kafka's timestamp will be
        columns = [*frame.columns, pa.array(np.arange(rows)), pa.array(now)]
        self._duck.register("frame", pa.table(columns, names=[*frame.schema.names, "_i", "_ts"]))
        self._duck.execute(self._program.route_sql)
        ((largest,),) = self._duck.execute(f"select max_valid_event from ({self._program.counts_sql})").fetchall()
        return None if largest is None else int(largest)
