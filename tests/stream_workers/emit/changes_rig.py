"""A pipeline whose tables emit their changes, and what must be in the topics: what their last records add up to."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb
import pyarrow as pa
from confluent_kafka.admin import ConfigResource, ResourceType

from tests.stream_workers.emit.rig import FinalRig, micros
from tests.stream_workers.orders import Message

TABLES = ("customers", "totals", "visits")
QUERIES = {
    "visits": """
        with begun as (
            select distinct "customerId" as k, micros as start from log t where not exists (
                select 1 from log o
                where o."customerId" = t."customerId" and o.micros < t.micros and t.micros - o.micros < 90000000)
        ), held as (
            select t.*, start from log t join begun b on b.k = t."customerId" and b.start <= t.micros and not exists (
                select 1 from begun n where n.k = b.k and n.start > b.start and n.start <= t.micros)
        )
        select "customerId", start, max(micros) + 90000000, count(*), sum("orderAmount"::decimal(18,2))
        from held group by "customerId", start""",
    "totals": 'select "customerId", count(*), sum("orderAmount"::decimal(18,2)) from log group by 1',
}


@dataclass
class ChangesRig(FinalRig):
    """Pipeline `orders` with tables `customers`, `totals` and `visits`."""

    def environment(self, **extra: str) -> dict[str, str]:
        return super().environment(**{"HEADRACE_CATALOG": "tests.catalogs_changes", **extra})

    def delete(self, seed: int, count: int) -> None:
        """Records without value for some customers."""
        rng = random.Random(seed)
        keys = rng.sample([f"c{n}".encode() for n in range(400)], count)
        self.send([Message("delete", key, None, None) for key in keys])

    def settled(self) -> bool:
        """Whether all that was sent is consumed, corrected, and published."""
        ends = self.ends()
        at = self.query("select table_version, partition, next_offset from ledger.positions")
        if {(p, o) for _, p, o in at} != set(ends.items()) or len(at) != len(TABLES) * self.partitions:
            return False
        wanted = self.query("select count(*) from ledger.corrections")
        made = self.query("select count(*) from ledger.correction_outcomes")
        boxes = self.query("select published_seq = outbox_seq and error is null from ledger.outboxes")
        left = self.query("select count(*) from ledger.outbox")
        return wanted == made and boxes == [(True,)] * len(TABLES) * self.partitions and left == [(0,)]

    def verify_topics(self, *, built_anew: bool = False) -> None:
        """The last record of each key is the row of the view, and of the query; each is there once.

        built_anew: then records are there too that the ledger has forgotten.
        """
        for table in TABLES:
            last, count = self._last(f"{self.topic}-{table}")
            rows = {
                tuple(micros(v) if isinstance(v, datetime) else v for v in row)
                for row in self.query(f'select * from public."{table}"')
            }
            assert set(last.values()) == rows and len(last) == len(rows), (table, self.logs())
            if table in QUERIES:
                assert rows == set(self._log().sql(QUERIES[table]).fetchall()), table
            ((given,),) = self.query(
                "select sum(outbox_seq)::int from ledger.outboxes where writer like %s", f"{table}@%"
            )
            assert count >= given if built_anew else count == given, table

    def policy(self, topic: str) -> str | None:
        """What Kafka keeps of a topic."""
        resource = ConfigResource(ResourceType.TOPIC, topic)
        policy: str | None = self.admin.describe_configs([resource])[resource].result(20)["cleanup.policy"].value
        return policy

    def _last(self, topic: str) -> tuple[dict[str, tuple[Any, ...]], int]:
        """The last record of each key, as Kafka keeps it when it compacts; how many records there are."""
        values = {(m.partition(), m.offset()): row for _, row, m in self.values(topic)}
        found: dict[str, tuple[Any, ...]] = {}
        partitions: dict[str, int | None] = {}
        records = self.log(topic)
        for message in records:
            key = (message.key() or b"").decode()
            assert partitions.setdefault(key, message.partition()) == message.partition()
            found.pop(key, None)
            row = values.get((message.partition(), message.offset()))
            if row is not None:
                found[key] = tuple(micros(v) if isinstance(v, datetime) else v for v in row.values())
                assert key == row["customerId"] or json.loads(key)[0] == row["customerId"]
        return found, len(records)

    def _log(self) -> duckdb.DuckDBPyConnection:
        rows = [
            {**m, "micros": micros(datetime.fromisoformat(m["orderTimestamp"]))} for m in [*self.sent.good, *self.fixed]
        ]
        db = duckdb.connect()
        db.register("log", pa.Table.from_pylist(rows))
        return db
