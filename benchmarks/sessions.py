"""Topic -> sessions per customer -> Postgres: each session is held against those found in the orders themselves."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.csv as arrow_csv

from benchmarks import data, orders, place, verify
from benchmarks.result import Run
from benchmarks.tumbling import Tumbling
from ledger import Connection
from topology import Aggregate, Session

_SESSIONS = """
    with timed as (
        select "customerId", epoch_ms(cast("orderTimestamp" as timestamptz)) as millis,
               cast(cast("orderAmount" as decimal(18,2)) * 100 as bigint) as cents
          from made
    ), begun as (
        select *, coalesce(millis - lag(millis) over (partition by "customerId" order by millis) >= $gap, true)
               as begins
          from timed
    ), numbered as (
        select *, sum(cast(begins as int)) over (partition by "customerId" order by millis) as number from begun
    )
    select "customerId", min(millis) as start, max(millis) + $gap as stop, count(*) as orders,
           cast(sum(cents) as bigint) as cents
      from numbered group by "customerId", number order by "customerId", start
"""
_FOUND = """
    copy (select "customerId", (extract(epoch from "windowStart") * 1000)::bigint,
                 (extract(epoch from "windowEnd") * 1000)::bigint, orders, ("salesAmount" * 100)::bigint
            from public.{view}) to stdout (format csv)
"""


@dataclass(frozen=True)
class Sessions:
    """A table of sessions."""

    name: str
    table: Aggregate
    workers: int

    def prepare(self, at: place.Place, records: int, say: data.Say) -> pa.Table:
        """Fill the topic; returns the exact sessions."""
        topic, window = self.table.source, self.table.window
        assert isinstance(window, Session)
        data.filled(at.home, topic, records, say)
        made = [chunk.batch for chunk in orders.chunks(records, topic.partitions, topic.shape.arrow)]
        with duckdb.connect() as duck:
            duck.execute("set TimeZone = 'UTC'")
            duck.register("made", pa.Table.from_batches(made))
            return duck.sql(_SESSIONS, params={"gap": window.micros // 1000}).to_arrow_table()

    def run(self, at: place.Place, records: int, expected: pa.Table, profile: Path | None = None) -> Run:
        """Build the table from nothing and compare it."""
        return Tumbling(self.name, self.table, self.workers, hold).run(at, records, expected, profile)


def hold(db: Connection, view: str, expected: pa.Table) -> None:
    """Hold the view against the exact sessions; `WrongResult` when one differs."""
    with db.cursor().copy(_FOUND.format(view=view).encode()) as copy:
        text = b"".join(bytes(block) for block in copy)
    found = arrow_csv.read_csv(
        io.BytesIO(text),
        read_options=arrow_csv.ReadOptions(column_names=expected.schema.names),
        convert_options=arrow_csv.ConvertOptions(column_types=expected.schema),
    )
    verify.same(view, found, expected, ("customerId", "start"))
