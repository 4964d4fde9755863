"""Topic -> the same orders re-keyed by product, with an expression -> a topic, by one worker."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from benchmarks import data, place, progress, verify
from benchmarks.process import Process
from benchmarks.result import Run
from headrace.settings import settings
from ingestion.provision import provision
from ledger import connect
from stream_workers.derive.position import group_of
from stream_workers.source import group_id
from topology import Derived

_DRAIN_SECONDS = 60.0


@dataclass(frozen=True)
class Deriving:
    """A derived topic."""

    name: str
    topic: Derived

    def prepare(self, at: place.Place, records: int, say: data.Say) -> pa.Table:
        """Fill the source; returns the exact sums, which the derived topic has too."""
        return data.filled(at.home, self.topic.source, records, say)

    def run(self, at: place.Place, records: int, expected: pa.Table, profile: Path | None = None) -> Run:
        """Make the topic from nothing and compare what is in it."""
        source, pipeline = self.topic.source, self.topic.maker
        data.forget([group_id(pipeline), group_of(self.topic.name)])
        data.remove(self.topic.name)
        provision(settings(), [self.topic])
        with place.database(at) as url, connect(url) as db:
            env = {**at.environment, "HEADRACE_POSTGRES_URL": url, "HEADRACE_BENCH_RECORDS": str(records)}
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
        verify.log(self.topic, expected)
        data.remove(self.topic.name)
        return Run.of(records, growth, [use], load)
