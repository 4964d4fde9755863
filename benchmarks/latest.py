"""Topic -> the newest order of each customer -> Postgres: every row is held against the newest of the log itself."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.csv as arrow_csv

from benchmarks import data, place, verify
from benchmarks.result import Run
from benchmarks.tumbling import Tumbling
from ledger import Connection
from topology import Latest as Newest


@dataclass(frozen=True)
class Latest:
    """A table of newest rows, one worker."""

    name: str
    table: Newest

    def prepare(self, at: place.Place, records: int, say: data.Say) -> pa.Table:
        """Fill the topic; returns the newest order of each customer: by event time, then partition, then offset."""
        data.filled(at.home, self.table.source, records, say)
        with duckdb.connect() as duck:
            duck.execute(
                "CREATE TABLE log (key VARCHAR, moment VARCHAR, p INTEGER, o BIGINT, id VARCHAR, amount DOUBLE)"
            )
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
        return Tumbling(self.name, self.table, 1, hold).run(at, records, expected, profile)


def hold(db: Connection, view: str, expected: pa.Table) -> None:
    """Hold the view against the newest orders; `WrongResult` when one differs."""
    query = f'copy (select "customerId", "orderId", "orderAmount" from public."{view}") to stdout (format csv)'
    with db.cursor().copy(query.encode()) as copy:
        text = b"".join(bytes(block) for block in copy)
    found = arrow_csv.read_csv(
        io.BytesIO(text),
        read_options=arrow_csv.ReadOptions(column_names=expected.schema.names),
        convert_options=arrow_csv.ConvertOptions(column_types=expected.schema),
    )
    if not found.sort_by("key").equals(expected):
        raise verify.WrongResult(
            f"{view} is wrong: it has {found.num_rows:,} rows; right are {expected.num_rows:,}, each the newest of its"
            " key; this is a bug, please report it"
        )
