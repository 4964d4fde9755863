"""Orders archived in small files, beside a table of them."""

import os

from topology import Aggregate, Archive, EventTime, Topic

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

ROLL_AFTER = os.environ.get("TEST_ROLL_AFTER", "1 second")
orders_lake = Archive("orders_lake", orders, roll_size="80 KB", roll_after=ROLL_AFTER)

customer_orders = Aggregate("customer_orders", orders, by=["customerId"], measures={"orders": "count(*)"})
