"""Alerts on the final rows of a table, and what must be in them: read off the log of final rows by hand."""

from __future__ import annotations

import random
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import Message

from tests.stream_workers import orders
from tests.stream_workers.emit.rig import FinalRig


@dataclass
class AlertRig(FinalRig):
    """Table `product_sales` emits its final rows; two alerts and a derived topic are made of them."""

    def environment(self, **extra: str) -> dict[str, str]:
        return super().environment(**{"HEADRACE_CATALOG": "tests.catalogs_alerts", **extra})

    @property
    def sales(self) -> str:
        """The topic of final rows."""
        return f"{self.topic}-product-sales"

    def alert(self, **extra: str) -> subprocess.Popen[bytes]:
        """Start a worker that makes the alerts."""
        return self.derive(f"{self.sales}-derived", **extra)

    def settled(self) -> bool:
        """Whether all that was sent is consumed, closed and published, and every final row judged."""
        table = "table_version like 'product_sales@%%'"
        at = dict(self.query(f"select partition, next_offset from ledger.positions where {table}"))
        closed = self.query(
            "select published_seq = outbox_seq and ended_mark ="
            " (select sum(next_offset + correction_seq) from ledger.positions p"
            f" where p.table_version = c.table_version) from ledger.closings c where {table}"
        )
        names = ("big-sales", "first-results", "quarters")
        return at == self.ends() and closed == [(True,)] and self.made(*names, source=self.sales)

    def read(self) -> bool:
        """Whether the table over what is made of final rows has all of it."""
        asked = "select partition, next_offset from ledger.positions where table_version like 'newest_quarters@%%'"
        return dict(self.query(asked)) == self.ends_of(f"{self.topic}-quarters")

    def send_late(self, product: str, minute: int, amount: float) -> None:
        """One order, long after the window of its minute was closed."""
        record = {
            **orders.order(random.Random(self.number), self.number),
            "productId": product,
            "status": "COMPLETED",
            "orderAmount": amount,
            "orderTimestamp": f"2026-03-01T00:{minute:02d}:00Z",
        }
        self.number += 1
        value = orders.encode(self.schema_id, record)
        self.send([orders.Message("good", record["customerId"].encode(), value, record)])

    def about(self, product: str, minute: int) -> list[tuple[str, int]]:
        """Ids and revisions of the alerts of big sales in the window that begins at the minute, in their order."""
        return [(r["alertId"], r["revision"]) for r in self._in_window(f"{self.topic}-big-sales", product, minute)]

    def revisions(self, product: str, minute: int) -> list[int]:
        """Revisions of the final row of that window."""
        return [r["revision"] for r in self._in_window(self.sales, product, minute)]

    def _in_window(self, topic: str, product: str, minute: int) -> list[dict[str, Any]]:
        begin = datetime(2026, 3, 1, 0, minute, tzinfo=UTC)
        return [r for _, r, _ in self.values(topic) if (r["productId"], r["windowStart"]) == (product, begin)]

    def verify_alerts(self) -> None:
        """Each alert once, with the values of its row; what is refused is a dead letter."""
        rows = [(row, message) for _, row, message in self.values(self.sales)]
        big = ("productId", "windowStart", "windowEnd", "salesAmount", "basket", "revision")
        expected = {
            "big-sales": [self._alert("big-sales", r, m, big) for r, m in rows if r["salesAmount"] > 3000],
            "first-results": [
                self._alert("first-results", r, m, ("productId", "windowEnd", "orders"))
                for r, m in rows
                if r["revision"] == 1 and r["orders"] >= 5
            ],
        }
        for suffix, wanted in expected.items():
            found = self.values(f"{self.topic}-{suffix}")
            assert Counter((*r.values(), m.timestamp()[1]) for _, r, m in found) == Counter(wanted), self.logs()
            assert all(key == r["productId"] for key, r, _ in found)
            assert 0 < len({r["alertId"] for _, r, _ in found}) == len(found) < len(rows), suffix
        kept = Counter((r["windowEnd"], r["orders"], r["revision"]) for r, _ in rows if r["orders"] < 10)
        quarters = [(*r.values(),)[1:] for _, r, _ in self.values(f"{self.topic}-quarters")]
        assert Counter(quarters) == kept
        letters = [dict(letter.headers() or []) for letter in self.log(f"{self.sales}-failed")]
        told = Counter((one["headrace-partition"], one["headrace-offset"], one["headrace-reason"]) for one in letters)
        refused = [(b"%d" % (m.partition() or 0), b"%d" % (m.offset() or 0)) for r, m in rows if r["orders"] >= 10]
        assert told == Counter((*where, b"require:plausible") for where in refused)

    def verify_table(self) -> None:
        """It has the last revision of each row, however many there were."""
        last = {key: (r["orders"], r["revision"]) for key, r, _ in self.values(f"{self.topic}-quarters")}
        found = self.query("select quarter, orders, revision from newest_quarters")
        assert {quarter: (orders, revision) for quarter, orders, revision in found} == last
        assert any(revision > 1 for _, revision in last.values())

    def _alert(self, name: str, row: dict[str, Any], message: Message, columns: Sequence[str]) -> tuple[Any, ...]:
        alert_id = f"{self.topic}-{name}:{self.sales}:{message.partition()}:{message.offset()}"
        return alert_id, *(row[column] for column in columns), message.timestamp()[1]
