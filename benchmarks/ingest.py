"""A large CSV file -> Kafka, by `headrace ingest`."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from benchmarks import data, place, progress, verify
from benchmarks.process import Process
from benchmarks.result import Run
from ledger import connect
from topology import FileSource

_END_SECONDS = 60.0


@dataclass(frozen=True)
class Ingest:
    """A source of one file."""

    name: str
    source: FileSource

    def prepare(self, at: place.Place, records: int, say: data.Say) -> pa.Table:
        """Write the file; returns the exact sums."""
        return data.csv_file(at.home, self.source.path, records, self.source.topic, say)

    def run(self, at: place.Place, records: int, expected: pa.Table, profile: Path | None = None) -> Run:
        """Ingest the file into a new topic and compare what is in the topic."""
        topic = self.source.topic
        data.remove(topic.name)
        with place.database(at) as url, connect(url) as db:
            env = {**at.environment, "HEADRACE_POSTGRES_URL": url}
            load, started = os.getloadavg()[0], time.monotonic()
            process = Process.start(self.name, ["cli.main", "ingest", self.source.name], env, at.home.folder("logs"))
            try:
                growth = progress.watch(db, progress.rows(topic.name), records, started, [process])
                use = process.wait(_END_SECONDS)
            finally:
                process.kill()
            file = db.execute("select state, produced, rejected, group_id from ledger.files").fetchall()
            if [entry[:3] for entry in file] != [("completed", records, 0)]:
                raise verify.WrongResult(f"the ledger says of the file: {file}; right is completed, {records:,}, 0")
        verify.log(topic, expected)
        data.forget([entry[3] for entry in file])
        data.remove(topic.name)
        return Run.of(records, growth, [use], load)
