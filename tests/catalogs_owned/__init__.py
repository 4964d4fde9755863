"""Tables whose rows each belong to one partition, over a topic of the test's own: `TEST_TOPIC`, `TEST_PARTITIONS`."""

import os

from topology import Aggregate, Count, EventTime, Session, Topic

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
MEASURES = {"orders": "count(*)", "amount": "sum(cast(orderAmount as decimal(18,2)))", "latest": "last(orderId)"}

visits = Aggregate("visits", source=orders, by=["customerId"], window=Session("6 hours"), measures=MEASURES)
by_threes = Aggregate("by_threes", source=orders, by=["customerId"], window=Count(3), measures=MEASURES)
