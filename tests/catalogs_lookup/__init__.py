"""Orders beside what their customer was at the time: `TEST_TOPIC`, and `TEST_CUSTOMERS_TOPIC` with its own workers."""

import os
from dataclasses import replace

from topology import Aggregate, EventTime, Latest, Lookup, Topic, Tumbling

orders = Topic(
    os.environ.get("TEST_TOPIC", "orders-under-test"),
    schema="orders/order_created.avsc",
    key="orderId",
    event_time=EventTime("orderTimestamp", "iso8601"),
    partitions=int(os.environ.get("TEST_PARTITIONS", "4")),
    pipeline="orders",
    require={"positive_amount": "orderAmount > 0"},
    not_before="2026-01-01",
    owners=("team:orders",),
)
customer_events = replace(
    orders,
    name=os.environ.get("TEST_CUSTOMERS_TOPIC", "customers-under-test"),
    key="customerId",
    pipeline="customers",
)

customers = Latest(
    "customers",
    source=customer_events,
    by=["customerId"],
    columns={"tier": "status", "discount": "quantity"},
    history=True,
)

per_tier = Aggregate(
    "per_tier",
    source=orders,
    by=["tier"],
    window=Tumbling("1 day"),
    lookups=[Lookup(customers, on="customerId", columns=["tier", "discount"], missing="dead_letter")],
    measures={"orders": "count(*)", "discounts": "sum(discount * quantity)"},
)
