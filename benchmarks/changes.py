"""Topic -> the newest order of each customer -> Postgres and, row by row as they change, a compacted topic."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from benchmarks import data, place, verify
from benchmarks.latest import Latest
from benchmarks.result import Run
from headrace.settings import settings
from ingestion.provision import provision
from stream_workers.emit.shard import group_of
from topology import Latest as Newest
from topology import compile_pipeline


@dataclass(frozen=True)
class Changing:
    """A table of newest rows that emits its changes, one worker."""

    name: str
    table: Newest

    def prepare(self, at: place.Place, records: int, say: data.Say) -> pa.Table:
        """Fill the topic; returns the newest order of each customer."""
        return Latest(self.name, self.table).prepare(at, records, say)

    def run(self, at: place.Place, records: int, expected: pa.Table, profile: Path | None = None) -> Run:
        """Build table and topic from nothing, and compare both; the worker has published all before it ends."""
        source = self.table.source
        program = compile_pipeline(source.pipeline_name, source, [self.table], place=__name__)
        (outlet,) = (one for one in program.outlets if one.kind == "changes")
        topic = outlet.declared
        assert topic is not None  # rows have one
        data.forget([group_of(one, shard) for one in program.outlets for shard in range(source.partitions)])
        data.remove(topic.name)
        provision(settings(), [topic])
        run = Latest(self.name, self.table).run(at, records, expected, profile)
        with duckdb.connect() as duck:
            duck.execute("CREATE TABLE log (key VARCHAR, id VARCHAR, amount DOUBLE, p INTEGER, o BIGINT)")
            for frame, partition, offsets in verify.records(topic):
                columns = [frame.column(name) for name in ("customerId", "orderId", "orderAmount")]
                part = pa.table([*columns, offsets], names=["key", "id", "amount", "o"])
                duck.register("part", part)
                duck.execute("INSERT INTO log SELECT key, id, amount, ?, o FROM part", [partition])
            last = (
                "SELECT key, arg_max(struct_pack(id, amount), o) AS row, count(DISTINCT p) AS ps FROM log GROUP BY key"
            )
            found = duck.sql(f"SELECT key, row.id AS id, row.amount AS amount FROM ({last}) WHERE ps = 1 ORDER BY key")
            if not found.to_arrow_table().equals(expected):
                raise verify.WrongResult(
                    f"{topic.name} is wrong: the last records of its keys are not the newest orders of"
                    f" {expected.num_rows:,} customers; this is a bug, please report it"
                )
        data.remove(topic.name)
        return run
