"""A pipeline whose tables emit changes and alerts, and what must be in the topics: what the log gives by hand."""

from __future__ import annotations

import json
import random
from collections import Counter
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
# The row before a record is the newest of the records before it; a record is a transition if none of these is newer.
_ALERTS = """
    with valid as (select *, epoch_us("orderTimestamp"::timestamptz) as t from log),
    v as (
        select "customerId" as k, "orderId" as name, status, t, p, o from valid where "orderAmount" > 100
        union all
        select d.key, null, null, max(valid.t), d.p, d.o from deletes d join valid on valid.p = d.p and valid.o < d.o
        group by all
    ), steps as (
        select v.*, (
            select {'t': b.t, 'name': b.name, 'status': b.status} from v b
            where b.k = v.k and b.o < v.o order by b.t desc, b.o desc limit 1
        ) as was from v where name is not null
    )
    select k, concat_ws(':', ?, p, o), k, t, name, was.name from steps
    where (was is null or was.t <= t) and status = 'FAILED' and was.status is distinct from 'FAILED'
"""


@dataclass
class ChangesRig(FinalRig):
    """Pipeline `orders` with tables `customers`, `totals` and `visits`, and alerts on table `large`."""

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
        if {(p, o) for _, p, o in at} != set(ends.items()) or len(at) != (len(TABLES) + 1) * self.partitions:
            return False
        # Kafka shows the last records a moment after their commit.
        consumed = self.query("select distinct sum(consumed)::int from ledger.positions group by table_version")
        if consumed != [(len(self.sent.messages) + self.markers,)]:
            return False
        wanted = self.query("select count(*) from ledger.corrections")
        made = self.query("select count(*) from ledger.correction_outcomes")
        boxes = self.query("select published_seq = outbox_seq and error is null from ledger.outboxes")
        left = self.query("select count(*) from ledger.outbox")
        return wanted == made and boxes == [(True,)] * (len(TABLES) + 1) * self.partitions and left == [(0,)]

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
                expected = set(self._log().sql(QUERIES[table]).fetchall())
                assert rows == expected, f"{table}: extra {rows - expected}, missing {expected - rows}"
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

    def verify_alerts(self) -> None:
        """Each alert once: of a large order that failed, whose customer's newest large order before it had not."""
        db = self.source_rows()
        deletes = [(m.key() or b"").decode() for m in self.log(self.topic) if m.value() is None]
        places = [(m.partition(), m.offset()) for m in self.log(self.topic) if m.value() is None]
        rows = [{"key": key, "p": p, "o": o} for key, (p, o) in zip(deletes, places, strict=True)]
        schema = pa.schema({"key": pa.string(), "p": pa.int64(), "o": pa.int64()})
        db.register("deletes", pa.Table.from_pylist(rows, schema=schema))
        expected = db.sql(_ALERTS, params=[f"{self.topic}-failures:{self.topic}"]).fetchall()
        found = [
            (key, *(micros(v) if isinstance(v, datetime) else v for v in row.values()))
            for key, row, _ in self.values(f"{self.topic}-failures")
        ]
        extra, missing = Counter(found) - Counter(expected), Counter(expected) - Counter(found)
        assert expected and not extra and not missing, f"extra {extra}, missing {missing}\n{self.logs()}"

    def _log(self) -> duckdb.DuckDBPyConnection:
        rows = [
            {**m, "micros": micros(datetime.fromisoformat(m["orderTimestamp"]))} for m in [*self.sent.good, *self.fixed]
        ]
        db = duckdb.connect()
        db.register("log", pa.Table.from_pylist(rows))
        return db
