"""Topic -> Parquet files in a local lake, by one worker; every file is read back and summed."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from benchmarks import data, place, progress, verify
from benchmarks.process import Process
from benchmarks.result import Run
from ledger import Connection, archive, connect
from stream_workers.source import group_id
from topology import Archive

_DRAIN_SECONDS = 60.0
_SUMS = """
    select "productId", epoch_us(cast("orderTimestamp" as timestamptz)) // 60000000 as minute,
           count(*) as orders, cast(sum(cast("orderAmount" as decimal(18,2)) * 100) as bigint) as cents
      from read_parquet($files) group by all
"""


@dataclass(frozen=True)
class Archiving:
    """An archive."""

    name: str
    archive: Archive

    def prepare(self, at: place.Place, records: int, say: data.Say) -> pa.Table:
        """Fill the source; returns the exact sums."""
        return data.filled(at.home, self.archive.source, records, say)

    def run(self, at: place.Place, records: int, expected: pa.Table, profile: Path | None = None) -> Run:
        """Write the lake from nothing and compare what is in it."""
        source, pipeline = self.archive.source, self.archive.maker
        data.forget([group_id(pipeline)])
        lake = at.home.folder("lake")
        with place.database(at) as url, connect(url) as db:
            env = {**at.environment, "HEADRACE_POSTGRES_URL": url, "HEADRACE_LAKE": lake.as_uri()}
            env["HEADRACE_BENCH_RECORDS"] = os.environ["HEADRACE_BENCH_RECORDS"]
            load, started = os.getloadavg()[0], time.monotonic()
            module = ["cli.main"] if profile is None else ["benchmarks.profiled", str(profile)]
            command = [*module, "worker", "run", pipeline, "--worker", f"{pipeline}-1"]
            process = Process.start(f"{pipeline}-1", command, env, at.home.folder("logs"))
            try:
                growth = progress.watch(db, progress.positions(source.name), records, started, [process])
                process.terminate()
                use = process.wait(_DRAIN_SECONDS)
            finally:
                process.kill()
            verify.identities(url, source.name, records)
            verify.same(self.archive.name, self._sums(db, expected), expected)
        shutil.rmtree(lake)
        return Run.of(records, growth, [use], load)

    def _sums(self, db: Connection, expected: pa.Table) -> pa.Table:
        """What is in the files of the manifest."""
        versions = db.execute("select table_version from ledger.table_versions").fetchall()
        files = [file.file for (version,) in versions for file in archive.files(db, version)]
        with duckdb.connect() as duck:
            duck.execute("set TimeZone = 'UTC'")
            found: pa.Table = duck.sql(_SUMS, params={"files": files}).to_arrow_table()
            return found.cast(expected.schema)
