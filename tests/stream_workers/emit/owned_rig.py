"""A pipeline that emits sessions and windows of records, and what must be in the topics: DuckDB over what was sent."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa

from tests.stream_workers.emit.rig import FinalRig

_SESSIONS = """
    with begun as (
        select distinct "customerId", micros as start from log t where not exists (
            select 1 from log o where o."customerId" = t."customerId" and o.micros < t.micros
                and t.micros - o.micros < 60000000)
    )
    select t."customerId", start, max(micros) + 60000000, count(*), sum("orderAmount"::decimal(18,2)), max("orderId")
    from log t asof join begun b on t."customerId" = b."customerId" and t.micros >= b.start group by all
"""
_FIVES = """
    with numbered as (
        select *, (row_number() over (partition by "customerId" order by number) - 1) // 5 as nth from log
    )
    select "customerId", nth, max(micros), count(*), sum("orderAmount"::decimal(18,2)), max("orderId")
    from numbered group by all having count(*) = 5
"""


@dataclass
class OwnedFinalRig(FinalRig):
    """Pipeline `orders` with tables `visits` and `by_fives`, and alerts on the former."""

    customers: int = 12
    idle_after: str = ""

    def environment(self, **extra: str) -> dict[str, str]:
        idle = {"TEST_IDLE_AFTER": self.idle_after} if self.idle_after else {}
        return super().environment(**{"HEADRACE_CATALOG": "tests.catalogs_final_owned", **idle, **extra})

    def settled(self) -> bool:
        """Whether all that was sent is consumed, corrected, closed by markers where there are any, and published."""
        ends = self.ends()
        at = self.query(
            "select partition, next_offset from ledger.positions where table_version like 'visits@%%'"
            " or table_version like 'by_fives@%%'"
        )
        if set(at) != set(ends.items()) or len(at) != 2 * self.partitions:
            return False
        wanted = self.query("select count(*) from ledger.corrections")
        made = self.query("select count(*) from ledger.correction_outcomes")
        sent = self.query("select published_seq = outbox_seq from ledger.closings")
        marked = self.query(
            "select ended_mark = (select sum(next_offset + correction_seq) from ledger.positions p"
            " where p.table_version = c.table_version) from ledger.closings c where table_version like 'visits@%%'"
        )
        left = self.query(f"select count(*) from {self._noted('by_fives')}")
        return wanted == made and [*sent, *marked] == [(True,)] * 3 and left == [(0,)]

    def closed(self) -> bool:
        """Whether all is consumed, idle, closed up to the last event time, and published."""
        at = self.query(
            "select max(watermark) = max(closed_through), sum(next_offset)::int from ledger.positions"
            " join ledger.closings using (table_version) where table_version like 'visits@%%'"
        )
        sent = self.query("select published_seq = outbox_seq from ledger.closings")
        left = self.query(f"select count(*) from {self._noted('visits')}")
        return at == [(True, sum(self.ends().values()))] and sent == [(True,)] * 2 and left == [(0,)]

    def _noted(self, table: str) -> str:
        """What batches have noted for the closer of a table, and it has not taken away."""
        found = self.query("select state_table from ledger.table_versions where table_name = %s", table)
        return f'{found[0][0][:-1]}__late"'

    def verify_owned(self) -> None:
        """What stands in the topics is what the queries give; each revision is there once, in order."""
        good = [{**m, "number": number} for number, m in enumerate(self.sent.good)]
        duck = duckdb.connect()
        for query, suffix, orders in (
            (_SESSIONS, "visits", [*good, *({**m, "number": -1} for m in self.fixed)]),
            (_FIVES, "by-fives", good),
        ):
            rows = [{**m, "micros": _micros(datetime.fromisoformat(m["orderTimestamp"]))} for m in orders]
            duck.register("log", pa.Table.from_pylist(rows))
            expected = {row[:2]: row[2:] for row in duck.sql(query).fetchall()}
            if suffix == "visits" and self.idle_after:  # no marker comes, and what is open stays so
                last = max(row["micros"] for row in rows)
                expected = {name: values for name, values in expected.items() if values[0] <= last}
            standing: dict[tuple[Any, ...], Any] = {}
            revisions: dict[tuple[Any, ...], list[int]] = {}
            for key, row, _ in self.values(f"{self.topic}-{suffix}"):
                name = key, row["windowNumber"] if "windowNumber" in row else _micros(row["windowStart"])
                standing[name] = _micros(row["windowEnd"]), row["orders"], row["amount"], row["most"]
                if row.get("withdrawn"):
                    del standing[name]
                revisions.setdefault(name, []).append(row["revision"])
            assert standing == expected, (suffix, self.logs())
            for name, seen in revisions.items():
                assert seen == list(range(1, len(seen) + 1)), (suffix, name, self.logs())
                assert suffix == "visits" or seen == [1]

    def verify_alerts(self) -> None:
        """Each record of the topic of visits that meets the condition and is not withdrawn is one alert."""
        rows = [row for _, row, _ in self.values(f"{self.topic}-visits")]
        assert any(row["withdrawn"] for row in rows)
        wanted = [row for row in rows if not row["withdrawn"] and (row["orders"] > 2 or row["revision"] > 1)]
        made = [row for _, row, _ in self.values(f"{self.topic}-alerts")]
        names = ("customerId", "windowStart", "windowEnd", "most")
        assert len({row["alertId"] for row in made}) == len(made)
        assert Counter(tuple(row[name] for name in names) for row in made) == Counter(
            tuple(row[name] for name in names) for row in wanted
        )
        counts = self.query(
            "select sum(applied)::int, sum(filtered)::int, sum(dead_lettered)::int from ledger.positions"
            " where table_version like %s",
            f"{self.topic}-alerts@%",
        )
        assert counts == [(len(wanted), len(rows) - len(wanted), 0)]


def _micros(at: datetime) -> int:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
