"""Orders whose sales are emitted when they are final; `TEST_TOPIC`, `TEST_PARTITIONS` in the environment."""

import os

from topology import Aggregate, EventTime, Final, Hopping, Topic, Tumbling

NAME = os.environ.get("TEST_TOPIC", "orders-under-test")

orders = Topic(
    NAME,
    schema="orders/order_created.avsc",
    key="customerId",
    event_time=EventTime("orderTimestamp", "iso8601"),
    partitions=int(os.environ.get("TEST_PARTITIONS", "4")),
    pipeline="orders",
    require={"positive_amount": "orderAmount > 0"},
    not_before="2026-01-01",
)

product_sales = Aggregate(
    "product_sales",
    source=orders,
    where="status = 'COMPLETED'",
    by=["productId"],
    window=Tumbling("15 minutes"),
    allowed_lateness="5 minutes",
    measures={"salesAmount": "sum(cast(orderAmount as decimal(18,2)))", "orders": "count(*)"},
    emit=Final(topic=f"{NAME}-product-sales", partitions=3),
)

status_counts = Aggregate(
    "status_counts",
    source=orders,
    by=["status"],
    window=Hopping("30 minutes", every="10 minutes"),
    measures={"orders": "count(*)"},
    emit=Final(topic=f"{NAME}-status-counts"),
)
