"""Alerts on transitions of newest rows: any cuts and crashes give what a query over the log does, each once."""

from __future__ import annotations

import io
import json
import random
from collections import Counter
from dataclasses import replace
from typing import Any

import fastavro
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ledger import Connection
from stream_workers.emit.steps import AlertStep
from stream_workers.steps import Step
from tests.operators.bench import STEPS, Bench
from tests.operators.conftest import EXAMPLES
from tests.topology.declare import NOON_MICROS, ORDER, topic
from topology import Alert, Latest

TOPIC = topic(partitions=2)
STOCK = Latest(
    "stock",
    source=TOPIC,
    by=["customerId"],
    columns={"left": "quantity", "price": "cast(orderAmount as decimal(18,2))", "status": "status"},
    where="status <> 'PENDING'",
)
LOW = Alert(
    "low",
    source=STOCK,
    when='"left" < 3 and coalesce(previous_left, 3) >= 3',
    columns={"customerId": "customerId", "valid_from": "valid_from", "left": '"left"', "was": "previous_left"},
)
BY_BOTH = Latest("by_both", source=TOPIC, by=["productId", "customerId"], columns=["status"], history=True)
FAILED = Alert(
    "failed",
    source=BY_BOTH,
    key="customerId",
    when="status = 'FAILED' and previous_status is distinct from 'FAILED'",
    columns={
        "customerId": "customerId",
        "since": "valid_from",
        "what": "productId || ' ' || coalesce(previous_status, 'new')",
        "broken": "cast(previous_status as integer)",
    },
)
FAILED = replace(FAILED, event_time=replace(FAILED.event_time, column="since"))
CRASHES: list[Step | AlertStep] = [*STEPS, AlertStep.NUMBERED]

RECORDS = st.lists(
    st.tuples(
        st.sampled_from(["order", "order", "order", "order", "delete", "mark", "skip"]),
        st.integers(0, 2),  # customer, who has one partition
        st.integers(0, 1),  # product
        st.integers(0, 6),  # minute
        st.integers(-1, 5),  # amount: those below 1 are invalid and move no watermark
        st.integers(0, 5),  # left
        st.sampled_from(["COMPLETED", "FAILED", "PENDING"]),
    ),
    max_size=60,
)
VERSIONS = """
create table versions as
with valid as (select *, epoch_us(orderTimestamp::timestamptz) as t from log where orderAmount > 0),
moved as (select partition, "offset", t from valid
  union all select partition, "offset", marker from nulls where marker is not null)
select customerId, productId, quantity, status, t, partition, "offset", false as gone from valid
union all
select n.key::varchar, null, null, null, max(m.t), n.partition, n."offset", true
from nulls n join moved m on m.partition = n.partition and m."offset" < n."offset"
where n.marker is null group by all
"""
# The row before a record is the newest of the records before it; a record is a transition if none of these is newer.
LOW_QUERY = """
with v as (select * from versions where status <> 'PENDING' or gone),
steps as (
    select v.*, (
        select {'quantity': o.quantity, 't': o.t} from v as o
        where o.customerId = v.customerId and o."offset" < v."offset" order by o.t desc, o."offset" desc limit 1
    ) as was from v where not gone
)
select customerId, concat_ws(':', 'low', 'orders', partition, "offset"), customerId, t, quantity, was.quantity
from steps where (was is null or was.t <= t) and quantity < 3 and (was.quantity is null or was.quantity >= 3)
"""
FAILED_QUERY = """
with v as (select * from versions where not gone),
steps as (
    select v.*, (
        select {'status': o.status, 't': o.t} from v as o
        where (o.customerId, o.productId) = (v.customerId, v.productId) and o."offset" < v."offset"
        order by o.t desc, o."offset" desc limit 1
    ) as was from v
)
select customerId, concat_ws(':', 'failed', 'orders', partition, "offset"), customerId, t,
    productId || ' ' || coalesce(was.status, 'new'), null
from steps where (was is null or was.t <= t) and status = 'FAILED' and was.status is distinct from 'FAILED'
"""


def sent(bench: Bench, alert: Alert) -> Counter[tuple[Any, ...]]:
    """Key and fields of every record of the alert's outboxes, whose numbers have no gaps."""
    schema = fastavro.parse_schema(json.loads(alert.shape.text))
    found: Counter[tuple[Any, ...]] = Counter()
    numbers: dict[int, int] = {}
    for shard, seq, name, key, payload in bench.db.execute(
        "select shard, seq, topic, key, payload from ledger.outbox where writer = %s order by shard, seq",
        (f"{bench.program.name}:{alert.name}",),
    ):
        assert (seq, name) == (numbers.get(shard, 0) + 1, alert.name)
        numbers[shard] = seq
        row: Any = fastavro.schemaless_reader(io.BytesIO(payload[5:]), schema)
        moment = alert.event_time.column
        values = [round(one.timestamp() * 1e6) if name == moment else one for name, one in row.items()]
        found[key.decode(), *values] += 1
    return found


def order(who: int, product: int, minute: int, amount: int, left: int, status: str) -> dict[str, Any]:
    return {
        **ORDER,
        "customerId": f"c{who}",
        "productId": f"p{product}",
        "quantity": left,
        "orderAmount": float(amount),
        "orderTimestamp": f"2026-01-10T12:{minute:02d}:00Z",
        "status": status,
    }


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)
@given(records=RECORDS, seed=st.integers(0, 2**32))
def test_equals_the_query_over_the_log(
    db: Connection, records: list[tuple[str, int, int, int, int, int, str]], seed: int
) -> None:
    bench = Bench(db, TOPIC, [STOCK, BY_BOTH], alerts=[LOW, FAILED])
    for what, who, product, minute, amount, left, status in records:
        if what == "order":
            bench.send(who % 2, order(who, product, minute, amount, left, status))
        elif what == "delete":
            bench.delete(who % 2, f"c{who}".encode())
        elif what == "mark":
            bench.mark(who % 2, NOON_MICROS + minute * 60_000_000)
    rng = random.Random(seed)
    while behind := [p for p in bench.logs if bench.position(p) < bench.end(p)]:
        partition = rng.choice(behind)
        to = min(bench.end(partition), bench.position(partition) + rng.choice([1, 2, 5, 40]))
        bench.advance(partition, to, rng.choice(CRASHES) if rng.random() < 0.3 else None)
    bench.accounting()
    duck = bench.duck()
    duck.execute(VERSIONS)
    assert sent(bench, LOW) == Counter(duck.sql(LOW_QUERY).fetchall())
    assert sent(bench, FAILED) == Counter(duck.sql(FAILED_QUERY).fetchall())


def test_a_correction_is_no_transition_and_is_the_row_before_the_next_one(db: Connection) -> None:
    bench = Bench(db, TOPIC, [STOCK], alerts=[LOW])
    db.execute("delete from ledger.corrections")
    bench.send(0, order(0, 0, 1, 5, 9, "COMPLETED"))
    bad = bench.send(0, order(0, 0, 2, -1, 1, "COMPLETED"))
    bench.advance(0, 2)
    assert bench.correct(0, bad, order(0, 0, 2, 5, 1, "COMPLETED"))
    bench.decide(0)
    assert [row["left"] for row in bench.rows("stock")] == [1] and not sent(bench, LOW)
    bench.send(0, order(0, 0, 3, 5, 2, "COMPLETED"))
    bench.advance(0, 3)
    assert not sent(bench, LOW)
    bench.send(0, order(0, 0, 4, 5, 7, "COMPLETED"))
    bench.send(0, order(0, 0, 5, 5, 0, "COMPLETED"))
    bench.advance(0, 5)
    ((row, times),) = sent(bench, LOW).items()
    assert (row[:2], row[4:], times) == (("c0", "low:orders:0:4"), (0, 7), 1)


def test_a_date_that_python_does_not_have_is_a_row_before_as_others(db: Connection) -> None:
    days = Latest("days", source=TOPIC, by=["customerId"], columns={"d": "cast(productId as date)"})
    later = Alert(
        "later",
        source=days,
        when="d > previous_d",
        columns={"customerId": "customerId", "valid_from": "valid_from", "year": "year(previous_d)"},
    )
    bench = Bench(db, TOPIC, [days], alerts=[later])
    for minute, name in enumerate(["12000-01-01", "12001-01-01"]):
        bench.send(0, {**order(0, 0, minute, 5, 1, "COMPLETED"), "productId": name})
        bench.advance(0, minute + 1)
    ((row, times),) = sent(bench, later).items()
    assert (row[0], row[-1], times) == ("c0", 12000, 1)
    assert not db.execute("select from ledger.dead_letters").fetchall()
