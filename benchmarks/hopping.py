"""Topic -> overlapping windows per product -> Postgres: each window is held against the exact sums of its minutes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from benchmarks import data, place
from benchmarks.result import Run
from benchmarks.tumbling import Tumbling
from topology import Aggregate
from topology import Hopping as Windows

_MINUTE = 60_000_000


@dataclass(frozen=True)
class Hopping:
    """A table of windows that begin every minute."""

    name: str
    table: Aggregate
    workers: int

    def prepare(self, at: place.Place, records: int, say: data.Say) -> pa.Table:
        """Fill the topic; returns the exact sums of each window, by the minute in which it begins."""
        window = self.table.window
        assert isinstance(window, Windows) and window.every_micros == _MINUTE
        minutes = data.filled(at.home, self.table.source, records, say)
        names = ", ".join(minutes.schema.names[2:])
        with duckdb.connect() as duck:
            duck.register("minutes", minutes)
            sums = duck.sql(
                "SELECT productId, minute - back AS minute, sum(orders) AS orders, sum(cents) AS cents FROM minutes,"
                f" (SELECT unnest(range({window.micros // _MINUTE})) AS back) GROUP BY ALL ORDER BY ALL"
            )
            return sums.select(f"productId, minute, {names}").to_arrow_table().cast(minutes.schema)

    def run(self, at: place.Place, records: int, expected: pa.Table, profile: Path | None = None) -> Run:
        """Build the table from nothing and compare it."""
        return Tumbling(self.name, self.table, self.workers).run(at, records, expected, profile)
