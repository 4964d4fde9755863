"""Tables that emit their rows whenever they change; `TEST_TOPIC`, `TEST_PARTITIONS` in the environment."""

import os

from topology import Aggregate, Changes, EventTime, Latest, Session, Topic

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

visits = Aggregate(
    "visits",
    source=orders,
    by=["customerId"],
    window=Session("90 seconds"),
    measures={"orders": "count(*)", "amount": "sum(cast(orderAmount as decimal(18,2)))"},
    emit=Changes(topic=f"{NAME}-visits"),
)

totals = Aggregate(
    "totals",
    source=orders,
    by=["customerId"],
    measures={"orders": "count(*)", "amount": "sum(cast(orderAmount as decimal(18,2)))"},
    emit=Changes(topic=f"{NAME}-totals", partitions=3),
)

customers = Latest(
    "customers",
    source=orders,
    by=["customerId"],
    columns=["orderId", "status"],
    emit=Changes(topic=f"{NAME}-customers"),
)
