"""Each order once, without window and in one-minute windows that drop records `TEST_LATENESS` late."""

import os

from topology import Aggregate, Dedup, EventTime, Topic, Tumbling

orders = Topic(
    os.environ["TEST_TOPIC"],
    schema="orders/order_created.avsc",
    key="customerId",
    event_time=EventTime("orderTimestamp", "iso8601"),
    partitions=int(os.environ["TEST_PARTITIONS"]),
    pipeline="orders",
    not_before="2026-01-01",
)

orders_once = Aggregate(
    "orders_once",
    source=orders,
    by=["customerId"],
    dedup=Dedup(["customerId", "orderId"], horizon="30 days"),
    measures={"orders": "count(*)", "pieces": "sum(quantity)"},
)

sales_once = Aggregate(
    "sales_once",
    source=orders,
    by=["productId"],
    window=Tumbling("1 minute"),
    allowed_lateness=os.environ.get("TEST_LATENESS", "2 days"),
    late="drop",
    dedup=Dedup(["customerId", "orderId"], horizon="30 days"),
    measures={"orders": "count(*)"},
)
