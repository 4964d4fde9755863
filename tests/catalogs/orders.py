"""The orders system over a topic of the test's own: `TEST_TOPIC`, `TEST_PARTITIONS` in the environment."""

import os

from topology import Aggregate, EventTime, Topic, Tumbling

orders = Topic(
    os.environ.get("TEST_TOPIC", "orders-under-test"),
    schema="orders/order_created.avsc",
    key="customerId",
    event_time=EventTime("orderTimestamp", "iso8601"),
    partitions=int(os.environ.get("TEST_PARTITIONS", "4")),
    pipeline="orders",
    require={"positive_amount": "orderAmount > 0"},
    not_before="2026-01-01",
)

customer_order_totals = Aggregate(
    "customer_order_totals",
    source=orders,
    by=["customerId"],
    measures={
        "orders": "count(*)",
        "totalAmount": "sum(cast(orderAmount as decimal(18,2)))",
        "smallestOrder": "min(cast(orderAmount as decimal(18,2)))",
        "largestOrder": "max(cast(orderAmount as decimal(18,2)))",
        "averageOrder": "avg(cast(orderAmount as decimal(18,2)))",
    },
)

product_sales = Aggregate(
    "product_sales",
    source=orders,
    where="status = 'COMPLETED'",
    by=["productId"],
    window=Tumbling("15 minutes"),
    allowed_lateness="5 minutes",
    measures={"salesAmount": "sum(cast(orderAmount as decimal(18,2)))", "orders": "count(*)"},
)

if os.environ.get("TEST_TABLE_ADDED"):
    orders_per_status = Aggregate(
        "orders_per_status",
        source=orders,
        by=["status"],
        window=Tumbling("1 day"),
        measures={"orders": "count(*)", "quantity": "sum(quantity)"},
    )
