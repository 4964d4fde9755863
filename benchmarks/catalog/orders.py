"""Orders per product and minute: the same table over four partitions and over one; and a topic that files go into.

The topics' names hold the number of records, so that a small run never takes the place of the large one's topics.
"""

from __future__ import annotations

import os
from dataclasses import replace

from topology import (
    Aggregate,
    Archive,
    Changes,
    Dedup,
    Derived,
    EventTime,
    FileSource,
    Hopping,
    Join,
    Latest,
    Session,
    Topic,
    Tumbling,
)
from topology.window import Window

RECORDS = int(os.environ.get("HEADRACE_BENCH_RECORDS") or 10_000_000)
ROWS = min(RECORDS, 3_000_000)  # of the CSV file: enough for 20 seconds, and three runs fit into the time
EACH = min(RECORDS, 1_000_000)  # of each topic of a join
FEW = min(RECORDS, 2_000_000)  # of operators that are not as fast, or need not as many to tell
NOT_BEFORE = "2026-01-01"


_MINUTE = Tumbling("1 minute")


def _topic(name: str, partitions: int, pipeline: str, records: int = RECORDS) -> Topic:
    return Topic(
        f"bench-{name}-{records}",
        schema="orders/order_created.avsc",
        key="customerId",
        event_time=EventTime("orderTimestamp", "iso8601"),
        partitions=partitions,
        pipeline=pipeline,
        dead_letters=f"bench-{name}-{records}-failed",
        require={"positive_amount": "orderAmount > 0"},
        not_before=NOT_BEFORE,
        description="Orders of the benchmarks.",
    )


def _table(name: str, source: Topic, window: Window = _MINUTE, by: str = "productId") -> Aggregate:
    return Aggregate(
        name,
        source=source,
        by=[by],
        window=window,
        allowed_lateness="5 seconds",
        measures={"orders": "count(*)", "salesAmount": "sum(cast(orderAmount as decimal(18,2)))"},
        description="Sales per group and window.",
    )


orders = _topic("orders", 4, "bench")
hopped = _topic("hopped", 4, "bench-hopped", FEW)
grown = _topic("grown", 4, "bench-grown", FEW)
visited = _topic("visited", 4, "bench-visited", FEW)
repeated = _topic("repeated", 4, "bench-repeated", FEW)
orders_1p = _topic("orders-1p", 1, "bench-1p")
ingested = _topic("ingested", 4, "bench-ingested")

product_minutes = _table("product_minutes", orders)
product_minutes_1p = _table("product_minutes_1p", orders_1p)

product_hops = _table("product_hops", hopped, Hopping("10 minutes", every="1 minute"))

# 50,000 customers, each of whom orders every 25 seconds or so: a session has three or four orders.
customer_sessions = _table("customer_sessions", visited, Session("30 seconds"), by="customerId")

# No order comes twice: each is looked up and remembered, which costs most.
product_minutes_once = replace(
    _table("product_minutes_once", repeated), dedup=Dedup(["customerId", "orderId"], horizon="5 minutes")
)

customer_minutes = _table("customer_minutes", grown, by="customerId")

by_product = Derived(
    f"bench-by-product-{RECORDS}",
    source=orders,
    key="productId",
    columns={
        "productId": "productId",
        "orderId": "orderId",
        "orderTimestamp": "orderTimestamp",
        "orderAmount": "orderAmount",
        "cents": "cast(round(orderAmount * 100) as bigint)",
    },
    description="Orders by product.",
)

kept = _topic("kept", 4, "bench-kept", FEW)
newest_orders = Latest(
    "newest_orders",
    source=kept,
    by=["customerId"],
    columns=["orderId", "orderAmount"],
    description="The newest order of each customer.",
)

told = _topic("told", 4, "bench-told", FEW)
told_orders = replace(newest_orders, name="told_orders", source=told, emit=Changes(f"bench-told-orders-{FEW}"))

ordered = _topic("ordered", 4, "bench-ordered", EACH)
paid = _topic("paid", 4, "bench-paid", EACH)

# Each order has a payment at its own time, and a customer orders every 25 seconds or so.
order_rows = Latest("order_rows", source=ordered, by=["customerId"], columns=["orderId"], history=True)
payment_rows = Latest("payment_rows", source=paid, by=["customerId"], columns={"paidOrderId": "orderId"}, history=True)
paid_orders = Join(
    "paid_orders",
    left=order_rows,
    right=payment_rows,
    on={"customerId": "customerId"},
    within=("-5 seconds", "10 seconds"),
    description="Orders beside the payments about their time.",
)

archived = _topic("archived", 4, "bench-archived", FEW)

# The last records of a partition wait for `roll_after`: as short as it may be next to a run of some seconds.
lake = Archive("bench_lake", source=archived, roll_size="32 MB", roll_after="2 seconds", description="Orders as files.")

orders_csv = FileSource(
    "orders_csv", topic=ingested, path=f"orders-{ROWS}.csv", format="csv", description="A large export of a shop."
)
