"""Topic -> one-minute windows per product (or another table) -> Postgres, by workers as the supervisor starts them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from benchmarks import data, place, progress, verify
from benchmarks.process import Process
from benchmarks.result import Run
from ledger import Connection, connect
from stream_workers.source import group_id
from topology import Aggregate, Latest

_DRAIN_SECONDS = 60.0


@dataclass(frozen=True)
class Tumbling:
    """A table and how many workers make it true.

    hold: compares its view with what is expected. fill: puts something into the new database before they start.
    """

    name: str
    table: Aggregate | Latest
    workers: int
    hold: Callable[[Connection, str, pa.Table], None] = verify.table
    fill: Callable[[Connection], None] | None = None

    def prepare(self, at: place.Place, records: int, say: data.Say) -> pa.Table:
        """Fill the topic; returns the exact sums."""
        return data.filled(at.home, self.table.source, records, say)

    def run(self, at: place.Place, records: int, expected: pa.Table, profile: Path | None = None) -> Run:
        """Build the table from nothing and compare it; `profile`: where workers write how they spent their time."""
        topic, pipeline = self.table.source, self.table.source.pipeline_name
        data.forget([group_id(pipeline)])
        with place.database(at) as url, connect(url) as db:
            env = {**at.environment, "HEADRACE_POSTGRES_URL": url, "HEADRACE_BENCH_RECORDS": str(records)}
            if self.fill is not None:
                self.fill(db)
            load, started = os.getloadavg()[0], time.monotonic()
            processes = [self._start(at, pipeline, slot, env, profile) for slot in range(1, self.workers + 1)]
            try:
                growth = progress.watch(db, progress.positions(topic.name), records, started, processes)
                for process in processes:
                    process.terminate()
                uses = [process.wait(_DRAIN_SECONDS) for process in processes]
            finally:
                for process in processes:
                    process.kill()
            self.hold(db, self.table.name, expected)
            verify.identities(url, topic.name, records)
        return Run.of(records, growth, uses, load)

    @staticmethod
    def _start(at: place.Place, pipeline: str, slot: int, env: Mapping[str, str], profile: Path | None) -> Process:
        worker = f"{pipeline}-{slot}"
        command = ["worker", "run", pipeline, "--worker", worker]
        module = ["cli.main"] if profile is None else ["benchmarks.profiled", str(profile)]
        return Process.start(worker, [*module, *command], env, at.home.folder("logs"))
