"""Topic -> the newest order of each customer -> Postgres: every row is held against the newest of the log itself."""

from __future__ import annotations

import io
import os
import time
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.csv as arrow_csv

from benchmarks import data, place, progress, verify
from benchmarks.process import Process
from benchmarks.result import Run
from ledger import connect
from stream_workers.source import group_id
from topology import Latest as Newest

_DRAIN_SECONDS = 60.0


@dataclass(frozen=True)
class Latest:
    """A table of newest rows, one worker."""

    name: str
    table: Newest

    def prepare(self, at: place.Place, records: int, say: data.Say) -> pa.Table:
        """Fill the topic; returns the newest order of each customer: by event time, then partition, then offset."""
        data.filled(at.home, self.table.source, records, say)
        with duckdb.connect() as duck:
            duck.execute("CREATE TABLE log (key VARCHAR, moment VARCHAR, p INTEGER, o BIGINT, id VARCHAR, amount DOUBLE)")
            for frame, partition, offsets in verify.records(self.table.source):
                columns = [frame.column(name) for name in ("customerId", "orderTimestamp", "orderId", "orderAmount")]
                part = pa.table([*columns, offsets], names=["key", "moment", "id", "amount", "o"])
                duck.register("part", part)
                duck.execute("INSERT INTO log SELECT key, moment, ?, o, id, amount FROM part", [partition])
            newest = "SELECT key, arg_max(struct_pack(id, amount), (moment, p, o)) AS row FROM log GROUP BY key"
            found = duck.sql(f"SELECT key, row.id AS id, row.amount AS amount FROM ({newest}) ORDER BY key")
            return found.to_arrow_table()

    def run(self, at: place.Place, records: int, expected: pa.Table, profile: Path | None = None) -> Run:
        """Build the table from nothing and compare it."""
        topic, pipeline = self.table.source, self.table.source.pipeline_name
        data.forget([group_id(pipeline)])
        with place.database(at) as url, connect(url) as db:
            env = {**at.environment, "HEADRACE_POSTGRES_URL": url, "HEADRACE_BENCH_RECORDS": str(records)}
            load, started = os.getloadavg()[0], time.monotonic()
            module = ["cli.main"] if profile is None else ["benchmarks.profiled", str(profile)]
            command = [*module, "worker", "run", pipeline, "--worker", f"{pipeline}-1"]
            process = Process.start(f"{pipeline}-1", command, env, at.home.folder("logs"))
            try:
                growth = progress.watch(db, progress.positions(topic.name), records, started, [process])
                process.terminate()
                use = process.wait(_DRAIN_SECONDS)
            finally:
                process.kill()
            query = (
                f'copy (select "customerId", "orderId", "orderAmount" from public."{self.table.name}") to stdout csv'
            )
            with db.cursor().copy(query.encode()) as copy:
                text = b"".join(bytes(block) for block in copy)
            verify.identities(url, topic.name, records)
        read = arrow_csv.ReadOptions(column_names=expected.schema.names)
        kinds = arrow_csv.ConvertOptions(column_types=expected.schema)
        found = arrow_csv.read_csv(io.BytesIO(text), read_options=read, convert_options=kinds)
        if not found.sort_by("key").equals(expected):
            raise verify.WrongResult(
                f"{self.table.name} is wrong: it has {found.num_rows:,} rows; right are {expected.num_rows:,}, each the"
                " newest of its key; this is a bug, please report it"
            )
        return Run.of(records, growth, [use], load)
