"""The tables once more, by other means: DuckDB SQL written by hand over the lines of the landing files.

Imports nothing of ours on purpose: no schema, no declaration, no reader. What an order is, which lines and records are
refused and what the tables hold is said here a second time, from the description of the orders system.
"""

from __future__ import annotations

import io
import json
import struct
import tempfile
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import duckdb
import fastavro

# Every line as it is: a separator that no text holds, no quotes, no header.
_READ = """
insert into lines
select ?, row_number() over (), line from read_csv(?, columns = {'line': 'varchar'}, header = false,
  auto_detect = false, delim = chr(31), quote = '', escape = '', new_line = '\\n', max_line_size = 1048576)
"""
# A line can become a record when it has seven values: a whole number, a number, one of three states. Whether the order
# makes sense (amount, time) is not asked of a line: such records reach the topic and become dead letters there.
_CSV = """
create view csv_rows as
with header as (select name, string_split(line, ',') as names from lines where name like '%.csv' and number = 1),
cut as (select name, string_split(line, ',') as v from lines where name like '%.csv' and number > 1)
select
  v[list_position(names, 'orderId')] as order_id, v[list_position(names, 'customerId')] as customer,
  v[list_position(names, 'productId')] as product, v[list_position(names, 'quantity')] as quantity,
  v[list_position(names, 'orderAmount')] as amount, v[list_position(names, 'orderTimestamp')] as stamp,
  v[list_position(names, 'status')] as status,
  case when len(v) < len(names) then 'missing_column' when len(v) > len(names) then 'extra_column'
    when not regexp_full_match(quantity, '-?[0-9]+') or try_cast(quantity as integer) is null
      or try_cast(amount as double) is null then 'wrong_type'
    when status not in ('COMPLETED', 'FAILED', 'PENDING') then 'bad_enum' end as refused
from cut join header using (name)
"""
_JSON = """
create view json_rows as
with documents as (select case when json_valid(line) then line::json end as d from lines where name not like '%.csv')
select
  d->>'orderId' as order_id, d->>'customerId' as customer, d->>'productId' as product, d->>'quantity' as quantity,
  d->>'orderAmount' as amount, d->>'orderTimestamp' as stamp, d->>'status' as status,
  case when d is null then 'bad_json'
    when len(list_filter(['orderId', 'customerId', 'productId', 'quantity', 'orderAmount', 'orderTimestamp', 'status'],
      lambda name: not list_contains(json_keys(d), name))) > 0 then 'missing_column'
    when json_type(d, '$.quantity') not in ('UBIGINT', 'BIGINT') or (json_type(d, '$.orderAmount') not in
      ('DOUBLE', 'UBIGINT', 'BIGINT') and not (json_type(d, '$.orderAmount') = 'VARCHAR' and amount = 'NaN'))
      then 'wrong_type'
    when status not in ('COMPLETED', 'FAILED', 'PENDING') then 'bad_enum' end as refused
from documents
"""
_ROWS = "create table rows as select * from csv_rows union all select * from json_rows"
_JUDGED = """
create table judged as
select customer, product, status, amount::double as amount, try_cast(stamp as timestamptz) as moment,
  case
    when moment is null then 'bad_time'
    when not regexp_matches(stamp, '(Z|[+-][0-9]{2}:?[0-9]{2})$') then 'no_time_zone'
    when moment < timestamptz '2026-01-01 00:00:00+00' then 'before_start'
    when not isfinite(amount::double) then 'not_finite:orderAmount'
    when not amount::double > 0 then 'require:positive_amount'
  end as reason
from rows where refused is null
"""
# Dead letters that were replayed, by the table that has them now; every condition held, or they were not.
_ORDERS = """
create table orders as
select customer, product, status, moment, (cast(amount as decimal(18,2)) * 100)::bigint as cents
from (
  from judged where reason is null
  union all by name
  select * exclude (of_table, stamp), stamp::timestamptz as moment from replayed where of_table = ?
)
"""
_REPLAYED = """
create table replayed (of_table text, customer text, product text, status text, amount double, stamp text)
"""
_EXPECTED = {
    "customer_order_totals": """
      select customer, count(*)::bigint as orders, sum(cents)::hugeint as total, min(cents) as smallest,
        max(cents) as largest
      from orders group by all""",
    "product_sales": """
      select product, epoch_us(moment) // 900000000 as quarter, sum(cents)::hugeint as total, count(*)::bigint as orders
      from orders where status = 'COMPLETED' group by all""",
}
_FOUND = {
    "customer_order_totals": """
      select "customerId" as customer, orders::bigint as orders, (cast("totalAmount" as decimal(38,2)) * 100)::hugeint
        as total, (cast("smallestOrder" as decimal(18,2)) * 100)::bigint as smallest,
        (cast("largestOrder" as decimal(18,2)) * 100)::bigint as largest
      from found where abs("averageOrder"::double - "totalAmount"::double / orders::bigint) < 1e-6""",
    "product_sales": """
      select "productId" as product, epoch_us("windowStart"::timestamptz) // 900000000 as quarter,
        (cast("salesAmount" as decimal(38,2)) * 100)::hugeint as total, orders::bigint as orders
      from found
      where epoch_us("windowStart"::timestamptz) % 900000000 = 0
        and epoch_us("windowEnd"::timestamptz) - epoch_us("windowStart"::timestamptz) = 900000000""",
}


_COLUMNS = ("customerId", "productId", "status", "orderAmount", "orderTimestamp")
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a registry beside us is behind no proxy


class Record(Protocol):
    """A record that came from no file."""

    @property
    def value(self) -> bytes | None:
        """Its bytes in the topic."""
        ...


@dataclass(frozen=True)
class Foreign:
    """Records that came from no file: how many, and how many of them are dead letters, by reason."""

    records: int
    dead_letters: Mapping[str, int]


@dataclass(frozen=True)
class Difference:
    """Rows found, rows expected, rows only found, rows only expected."""

    rows: int
    expected_rows: int
    unexpected: int
    missing: int

    @property
    def none(self) -> bool:
        """Whether the table is as expected."""
        return self.unexpected == 0 and self.missing == 0 and self.rows == self.expected_rows > 0

    def describe(self) -> str:
        """In words."""
        if self.none:
            return f"{self.rows:,} rows equal, all columns"
        return (
            f"{self.rows:,} rows, expected {self.expected_rows:,}; {self.unexpected:,} wrong, {self.missing:,} missing"
        )


class Recomputation:
    """What the tables must hold, computed from the files alone."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._db = duckdb.connect()
        self._db.execute("set TimeZone = 'UTC'; set preserve_insertion_order = true")
        self._db.execute("create table lines (name varchar, number bigint, line varchar)")
        for file in files:
            self._db.execute(_READ, [file.name, str(file)])
        for statement in (_CSV, _JSON, _ROWS, _JUDGED, _REPLAYED):
            self._db.execute(statement)

    def __enter__(self) -> Recomputation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    def rejected(self) -> dict[str, int]:
        """Lines that cannot become records, by reason."""
        return self._counts("select refused, count(*) from rows where refused is not null group by all")

    def dead_letters(self) -> dict[str, int]:
        """Records out of the files that are no valid orders, by reason."""
        return self._counts("select reason, count(*) from judged where reason is not null group by all")

    def lines(self) -> int:
        """Orders in the files, good and bad; header lines are none."""
        return sum(self._counts("select 'rows', count(*) from rows").values())

    def add_foreign(self, records: Iterable[Record], registry_url: str) -> Foreign:
        """Take records into account that came from no file, decoded with the schema that the registry has for them."""
        schemas: dict[int, Any] = {}
        dead: Counter[str] = Counter()
        orders: list[dict[str, Any]] = []
        count = 0
        for record in records:
            count += 1
            order = _decode(record.value, registry_url, schemas)
            if isinstance(order, str):
                dead[order] += 1
            else:
                orders.append(order)
        before = Counter(self.dead_letters())
        if orders:
            self._insert(orders)
        dead.update(Counter(self.dead_letters()) - before)
        return Foreign(count, dict(dead))

    def add_replayed(self, table: str, values: Iterable[bytes | None], registry_url: str) -> None:
        """Take dead letters of a table into account that were replayed, with the bytes they were replayed with."""
        schemas: dict[int, Any] = {}
        for value in values:
            order = _decode(value, registry_url, schemas)
            if isinstance(order, str):
                raise ValueError(f"a record of {table} was replayed that is {order}")
            given = [table, *(order[column] for column in _COLUMNS)]
            self._db.execute("insert into replayed values (?, ?, ?, ?, ?, ?)", given)

    def compare(self, table: str, chunks: Iterable[bytes | bytearray | memoryview]) -> Difference:
        """Compare with the rows of a table, given as CSV with a header."""
        with tempfile.NamedTemporaryFile(suffix=".csv") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            self._db.execute(
                "create or replace temp table found as select * from read_csv(?, header = true, all_varchar = true)",
                [file.name],
            )
        self._db.execute("drop table if exists orders").execute(_ORDERS, [table])
        self._db.execute(f"create or replace temp table expected as {_EXPECTED[table]}")
        self._db.execute(f"create or replace temp table comparable as {_FOUND[table]}")
        return Difference(
            self._number("select count(*) from found"),
            self._number("select count(*) from expected"),
            self._number("select count(*) from (select * from comparable except all select * from expected)"),
            self._number("select count(*) from (select * from expected except all select * from comparable)"),
        )

    def _insert(self, orders: Sequence[dict[str, Any]]) -> None:
        given = [[order[column] for column in _COLUMNS] for order in orders]
        self._db.execute(
            "create or replace temp table given (customer text, product text, status text, amount double, stamp text)"
        )
        self._db.executemany("insert into given values (?, ?, ?, ?, ?)", given)
        judged = _JUDGED.replace("create table judged as", "insert into judged").replace(
            "from rows where refused is null", "from given"
        )
        self._db.execute(judged)

    def _counts(self, query: str) -> dict[str, int]:
        return {name: int(count) for name, count in self._db.execute(query).fetchall()}

    def _number(self, query: str) -> int:
        row = self._db.execute(query).fetchone()
        return int(row[0]) if row else 0


def total(*counts: Mapping[str, int]) -> dict[str, int]:
    """The sums of several counts by name."""
    added: Counter[str] = Counter()
    for some in counts:
        added.update(some)
    return dict(added)


def _decode(value: bytes | None, registry_url: str, schemas: dict[int, Any]) -> dict[str, Any] | str:
    """The order in a record, or the reason why there is none."""
    if not value:
        return "empty_value"
    if value[0] != 0 or len(value) < 5:
        return "no_magic_byte"
    (number,) = struct.unpack(">I", value[1:5])
    if number not in schemas:
        try:
            with _DIRECT.open(f"{registry_url.rstrip('/')}/schemas/ids/{number}", timeout=15) as answer:
                schemas[number] = fastavro.parse_schema(json.loads(json.load(answer)["schema"]))
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            schemas[number] = None
    if schemas[number] is None:
        return "unknown_schema_id"
    datum = io.BytesIO(value[5:])
    try:
        order: dict[str, Any] = fastavro.schemaless_reader(datum, schemas[number], None)  # type: ignore[assignment]
    except (EOFError, ValueError, IndexError, UnicodeDecodeError):
        return "undecodable"
    return "undecodable" if datum.read(1) else order
