"""Two topics -> two histories -> their join, by one worker each; the join itself is made when it is read."""

from __future__ import annotations

import io
import os
import time
from dataclasses import dataclass
from pathlib import Path

import click
import duckdb
import pyarrow as pa
import pyarrow.csv as arrow_csv

from benchmarks import data, orders, place, progress, verify
from benchmarks.process import Process
from benchmarks.result import Run
from ledger import Connection, connect
from stream_workers.source import group_id
from topology import Join

_DRAIN_SECONDS = 60.0
_PAIRS = """
    with moments as (select "customerId", "orderId", epoch_us(cast("orderTimestamp" as timestamptz)) as t from made)
    select l."orderId" as ordered, r."orderId" as paid
      from moments l join moments r
        on r."customerId" = l."customerId" and r.t between l.t - {before} and l.t + {after}
     order by all
"""


@dataclass(frozen=True)
class Joining:
    """A join of two topics that hold the same orders. before, after: its bound in microseconds."""

    name: str
    join: Join
    before: int
    after: int

    def prepare(self, at: place.Place, records: int, say: data.Say) -> pa.Table:
        """Fill both topics; returns all pairs."""
        left, right = (table.source for table in self.join.tables)
        for topic in (left, right):
            data.filled(at.home, topic, records, say)
        made = [chunk.batch for chunk in orders.chunks(records, left.partitions, left.shape.arrow)]
        with duckdb.connect() as duck:
            duck.execute("set TimeZone = 'UTC'")
            duck.register("made", pa.Table.from_batches(made))
            return duck.sql(_PAIRS.format(before=self.before, after=self.after)).to_arrow_table()

    def run(self, at: place.Place, records: int, expected: pa.Table, profile: Path | None = None) -> Run:
        """Build both tables from nothing and compare the join; records of both topics are counted."""
        topics = [table.source for table in self.join.tables]
        pipelines = [topic.pipeline_name for topic in topics]
        data.forget([group_id(pipeline) for pipeline in pipelines])
        with place.database(at) as url, connect(url) as db:
            env = {**at.environment, "HEADRACE_POSTGRES_URL": url, "HEADRACE_BENCH_RECORDS": str(records)}
            load, started = os.getloadavg()[0], time.monotonic()
            commands = [["cli.main", "worker", "run", name, "--worker", f"{name}-1"] for name in pipelines]
            logs = at.home.folder("logs")
            processes = [Process.start(c[-1], c, env, logs) for c in commands]
            each = [progress.positions(topic.name) for topic in topics]
            try:
                growth = progress.watch(db, lambda db: sum(f(db) for f in each), 2 * records, started, processes)
                for process in processes:
                    process.terminate()
                uses = [process.wait(_DRAIN_SECONDS) for process in processes]
            finally:
                for process in processes:
                    process.kill()
            self._hold(db, expected)
            for topic in topics:
                verify.identities(url, topic.name, records)
        return Run.of(2 * records, growth, uses, load)

    def _hold(self, db: Connection, expected: pa.Table) -> None:
        """Hold all pairs against the exact ones, and say how long Postgres took to make them."""
        query = f'copy (select "orderId", "paidOrderId" from public."{self.join.name}") to stdout (format csv)'
        began = time.monotonic()
        with db.cursor().copy(query.encode()) as copy:
            text = b"".join(bytes(block) for block in copy)
        click.echo(f"{self.name}: {expected.num_rows:,} pairs were read in {time.monotonic() - began:.1f} s", err=True)
        names = arrow_csv.ReadOptions(column_names=expected.schema.names)
        found = arrow_csv.read_csv(io.BytesIO(text), read_options=names)
        if not found.sort_by([(name, "ascending") for name in expected.schema.names]).equals(expected):
            raise verify.WrongResult(
                f"{self.join.name} is wrong: it has {found.num_rows:,} pairs; right are {expected.num_rows:,};"
                " this is a bug, please report it"
            )
