"""A pipeline whose tables emit final rows, and what must be in the topics: DuckDB over what was sent, by hand."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa

from ledger import connect, corrections
from ledger.corrections import Wish
from tests.stream_workers import orders
from tests.stream_workers.derive.rig import DerivedRig
from tests.stream_workers.orders import Message

_BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
QUERIES = {
    "product-sales": """
        select "productId", micros // 900000000 * 900000000 as start, start + 900000000, count(*),
            sum("orderAmount"::decimal(18,2))
        from log where status = 'COMPLETED' group by all""",
    "status-counts": """
        select status, start, start + 1800000000, count(*) from log, (select unnest([0, 1, 2]) as back),
            lateral (select micros // 600000000 * 600000000 - back * 600000000 as start) group by all""",
}


@dataclass
class FinalRig(DerivedRig):
    """Pipeline `orders` with tables `product_sales` and `status_counts`. fixed: orders that replace refused ones."""

    minute: int = 0
    customers: int = 400
    fixed: list[dict[str, Any]] = field(default_factory=list)

    def environment(self, **extra: str) -> dict[str, str]:
        return super().environment(**{"HEADRACE_CATALOG": "tests.catalogs_final", **extra})

    def run_on(self, seed: int, good: int, bad: int = 0) -> None:
        """Send orders of the next 40 minutes, one in ten of them from long ago, and some that are refused."""
        rng = random.Random(seed)
        messages = []
        for kind in ["good"] * good + ["negative"] * bad:
            order = orders.order(rng, self.number)
            late = rng.random() < 0.1
            seconds = rng.randrange(60 * (self.minute + 40)) if late else 60 * self.minute + rng.randrange(60 * 40)
            order |= {
                "orderTimestamp": (_BEGIN + timedelta(seconds=seconds)).isoformat(),
                "customerId": f"c{rng.randrange(self.customers)}",
                "productId": f"p{rng.randrange(8)}",
                "orderAmount": -5.0 if kind == "negative" else order["orderAmount"],
            }
            value = orders.encode(self.schema_id, order)
            messages.append(Message(kind, order["customerId"].encode(), value, order))
            self.number += 1
        rng.shuffle(messages)
        for start in range(0, len(messages), 100):
            self.send(messages[start : start + 100])
        self.minute += 40

    def mark(self) -> None:
        """End-of-input markers after everything that was sent."""
        self.mark_end(micros(_BEGIN + timedelta(minutes=self.minute)))

    def fix(self) -> None:
        """Replay every open dead letter with an amount that is not refused."""
        with connect(self.database) as db:
            rows = db.execute(
                "select d.record_id, d.table_version, r.payload from ledger.dead_letters d"
                " join ledger.dead_letter_records r using (record_id)"
                " where d.state = 'open' and r.payload is not null order by 1, 2"
            ).fetchall()
            by_value = {m.value: m.order for m in self.sent.messages if m.kind == "negative"}
            wishes, known = [], {order["orderId"] for order in self.fixed}  # open until its owner has decided
            for record, version, payload in rows:
                order = {**(by_value[bytes(payload)] or {}), "orderAmount": 7.5}
                wishes.append(Wish(record, version, orders.encode(self.schema_id, order)))
                if order["orderId"] not in known:
                    self.fixed.append(order)
                known.add(order["orderId"])
            corrections.replay(db, wishes, "test")

    def settled(self) -> bool:
        """Whether all that was sent is consumed, corrected, closed by markers, and published."""
        ends = self.ends()
        at = self.query("select table_version, partition, next_offset from ledger.positions")
        if {(p, o) for _, p, o in at} != set(ends.items()) or len(at) != 2 * self.partitions:
            return False
        wanted = self.query("select count(*) from ledger.corrections")
        made = self.query("select count(*) from ledger.correction_outcomes")
        rows = self.query(
            "select published_seq = outbox_seq and ended_mark ="
            " (select sum(next_offset + correction_seq) from ledger.positions p"
            " where p.table_version = c.table_version)"
            " from ledger.closings c"
        )
        return wanted == made and [row[0] for row in rows] == [True, True]

    def emitted(self, suffix: str) -> list[tuple[Any, ...]]:
        """Key columns, start, end, measures and revision of every record, partition by partition in order."""
        found = []
        for key, row, message in self.values(f"{self.topic}-{suffix}"):
            *head, revision = row.values()
            assert key == head[0]
            found.append((message.partition(), [micros(v) if isinstance(v, datetime) else v for v in head], revision))
        return found

    def verify_topics(self, *, built_anew: bool = False) -> None:
        """Each revision once and in order, and the last ones are what the query gives.

        built_anew: then revisions begin again, and no row is left out.
        """
        rows = [
            {**m, "micros": micros(datetime.fromisoformat(m["orderTimestamp"]))} for m in [*self.sent.good, *self.fixed]
        ]
        db = duckdb.connect()
        db.register("log", pa.Table.from_pylist(rows))
        for suffix, query in QUERIES.items():
            expected = {tuple(row[:2]): row[2:] for row in db.sql(query).fetchall()}
            last: dict[tuple[Any, ...], Any] = {}
            revisions: dict[tuple[Any, ...], list[tuple[int, int]]] = {}
            for partition, (key, start, *rest), revision in self.emitted(suffix):
                last[key, start] = tuple(rest[:1] + ([rest[2], rest[1]] if len(rest) == 3 else rest[1:]))
                revisions.setdefault((key, start), []).append((partition, revision))
            for where, seen in revisions.items():
                numbers = [revision for _, revision in seen]
                if built_anew:
                    numbers = numbers[len(numbers) - numbers[::-1].index(1) - 1 :]
                assert numbers == list(range(1, len(numbers) + 1)), (suffix, where, self.logs())
                assert len({partition for partition, _ in seen}) == 1
            assert last == expected, suffix


def micros(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)
