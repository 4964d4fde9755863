"""Sums over tumbling windows and over none: any order, any cuts, any crash give what one query over the log gives."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ledger import Connection
from tests.operators.bench import Bench
from tests.operators.conftest import EXAMPLES
from tests.topology.declare import ORDER, PER_CUSTOMER, PER_PRODUCT, topic

TOPIC = topic(partitions=3)
TABLES = [replace(PER_CUSTOMER, source=TOPIC), replace(PER_PRODUCT, source=TOPIC)]
ORDERS = st.lists(
    st.tuples(
        st.integers(0, 2),  # partition
        st.integers(0, 180),  # minute
        st.integers(0, 4),  # customer and product
        st.integers(1, 9_999),  # cents
        st.sampled_from(["COMPLETED", "FAILED"]),
    ),
    max_size=40,
)


def order(minute: int, who: int, cents: int, status: str) -> dict[str, Any]:
    at = f"2026-01-10T{12 + minute // 60:02d}:{minute % 60:02d}:30Z"
    return {
        **ORDER,
        "customerId": f"c{who}",
        "productId": f"p{who}",
        "orderAmount": cents / 100,
        "orderTimestamp": at,
        "status": status,
    }


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)
@given(orders=ORDERS, seed=st.integers(0, 2**32))
def test_equals_the_batch_query(db: Connection, orders: list[tuple[int, int, int, int, str]], seed: int) -> None:
    bench = Bench(db, TOPIC, TABLES)
    for partition, minute, who, cents, status in orders:
        bench.send(partition, order(minute, who, cents, status))
    bench.play(random.Random(seed))
    bench.accounting()
    duck = bench.duck()
    per_customer = duck.sql("select customerId, count(*), sum(orderAmount::decimal(18,2)) from log group by all")
    found = {(row["customerId"], row["orders"], row["total"]) for row in bench.rows("per_customer")}
    assert found == set(per_customer.fetchall())
    per_product = duck.sql(
        "select productId, epoch_us(orderTimestamp::timestamptz) // 900000000, count(*),"
        " sum(orderAmount::decimal(18,2)) from log where status = 'COMPLETED' group by all"
    )
    windows = {
        (row["productId"], int(row["windowStart"].timestamp()) // 900, row["orders"], row["total"])
        for row in bench.rows("per_product")
    }
    assert windows == set(per_product.fetchall())
