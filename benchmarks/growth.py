"""The same records on a small and on a large state: how much slower is a worker whose table has grown?

The table has rows of earlier windows of the same keys, so that what comes is spread over the whole of its index.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import duckdb
import psycopg
import pyarrow as pa
import pyarrow.csv as arrow_csv

from benchmarks import data, orders, place, verify
from benchmarks.result import Run
from benchmarks.tumbling import Tumbling
from ledger import Connection
from stream_workers.versions import register
from topology import Aggregate, Latest, compile_pipeline

_SUMS = """
    select "customerId", epoch_us(cast("orderTimestamp" as timestamptz)) // 60000000 as minute, count(*) as orders,
           cast(sum(cast("orderAmount" as decimal(18,2))) * 100 as bigint) as cents
      from made group by all order by all
"""
_FOUND = """
    copy (select "customerId", (extract(epoch from "windowStart") / 60)::bigint, orders, ("salesAmount" * 100)::bigint
            from public.{view} where "windowStart" >= '2026-01-01Z') to stdout (format csv)
"""
_FILL = """
    insert into {state} ("customerId", window_start, gen, shard, orders, "salesAmount")
    select 'customer-' || lpad(customer::text, 5, '0'), timestamptz '2026-01-01Z' - back * interval '1 minute', 0,
           customer %% %(partitions)s, 1, 100
      from generate_series(%(each)s, 1, -1) as back, generate_series(0, %(customers)s - 1) as customer
"""


@dataclass(frozen=True)
class Growth:
    """A table of one-minute windows per customer that has so many rows already."""

    name: str
    table: Aggregate
    rows: int

    def prepare(self, at: place.Place, records: int, say: data.Say) -> pa.Table:
        """Fill the topic; returns the exact sums."""
        topic = self.table.source
        data.filled(at.home, topic, records, say)
        made = [chunk.batch for chunk in orders.chunks(records, topic.partitions, topic.shape.arrow)]
        with duckdb.connect() as duck:
            duck.execute("set TimeZone = 'UTC'")
            duck.register("made", pa.Table.from_batches(made))
            return duck.sql(_SUMS).to_arrow_table()

    def run(self, at: place.Place, records: int, expected: pa.Table, profile: Path | None = None) -> Run:
        """Build the new windows beside the old ones and compare them."""

        earlier = filler(at, self.table, _FILL, self.rows // orders.CUSTOMERS)
        return Tumbling(self.name, self.table, 1, _hold, earlier).run(at, records, expected, profile)


def filler(at: place.Place, table: Aggregate | Latest, query: str, each: int) -> Callable[[Connection], None]:
    """What puts `each` rows of every customer into a new table, by `query`."""

    def fill(db: Connection) -> None:
        _fill(db, table, query, each)
        with psycopg.connect(at.admin_url, autocommit=True) as admin:
            admin.execute("checkpoint")

    return fill


def _fill(db: Connection, table: Aggregate | Latest, query: str, each: int) -> None:
    """The index is made after the rows, which takes half the time."""
    topic = table.source
    program = compile_pipeline(topic.pipeline_name, topic, [table], place=__name__)
    register(db, program)
    state = program.tables[0].state_table
    (name, key) = db.execute(
        "select conname, pg_get_constraintdef(oid) from pg_constraint where contype = 'p' and conrelid = %s::regclass",
        (state,),
    ).fetchone() or ("", "")
    db.execute(f'alter table {state} drop constraint "{name}"'.encode())
    given = {"partitions": topic.partitions, "customers": orders.CUSTOMERS, "each": each}
    db.execute(query.format(state=state).encode(), given)
    db.execute(f'alter table {state} add constraint "{name}" {key}'.encode())
    db.execute(f"vacuum analyze {state}".encode())


def _hold(db: Connection, view: str, expected: pa.Table) -> None:
    with db.cursor().copy(_FOUND.format(view=view).encode()) as copy:
        text = b"".join(bytes(block) for block in copy)
    found = arrow_csv.read_csv(
        io.BytesIO(text),
        read_options=arrow_csv.ReadOptions(column_names=expected.schema.names),
        convert_options=arrow_csv.ConvertOptions(column_types=expected.schema),
    )
    verify.same(view, found, expected, ("customerId", "minute"))


def times_slower(what: str, small: float, large: float) -> str:
    """One line that holds the two rates against each other."""
    times = small / large
    return f"{what}-10m: {times:.2f} times slower than {what}-100k, {'met' if times <= 2 else 'MISSED'} (2 at most)"
