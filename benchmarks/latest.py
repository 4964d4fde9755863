"""Topic -> the newest order of each customer -> Postgres: every row is held against the newest of the log itself."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.csv as arrow_csv

from benchmarks import data, orders, place, verify
from benchmarks.growth import filler
from benchmarks.result import Run
from benchmarks.tumbling import Tumbling
from ledger import Connection
from topology import Latest as Newest

# The customers of the log are every so many rows of the index: each change falls on a page of its own.
_FILL = """
    insert into {state} ("customerId", shard, _event_time, _offset, _deleted, "orderId", "orderAmount")
    select 'customer-' || lpad(customer::text, 5, '0') || '-' || other, customer %% %(partitions)s,
           timestamptz '2025-12-31Z', 0, false, 'o-' || customer, 1
      from generate_series(1, %(each)s) as other, generate_series(0, %(customers)s - 1) as customer
"""


@dataclass(frozen=True)
class Latest:
    """A table of newest rows, one worker. rows: those of other customers that it has already."""

    name: str
    table: Newest
    rows: int = 0

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
        fill = filler(at, self.table, _FILL, self.rows // orders.CUSTOMERS) if self.rows else None
        return Tumbling(self.name, self.table, 1, hold, fill).run(at, records, expected, profile)


def hold(db: Connection, view: str, expected: pa.Table) -> None:
    """Hold the view against the newest orders; `WrongResult` when one differs."""
    columns = '"customerId", "orderId", "orderAmount"'
    query = f"""copy (select {columns} from public."{view}" where "customerId" !~ '-.*-') to stdout (format csv)"""
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
