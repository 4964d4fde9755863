"""Orders whose visits are emitted when they are over, and by fives; `TEST_TOPIC`, `TEST_PARTITIONS` as elsewhere.

`TEST_IDLE_AFTER`: after which time partitions hold no visit back.
"""

import os

from topology import Aggregate, Alert, Count, EventTime, Final, Session, Topic

NAME = os.environ.get("TEST_TOPIC", "orders-under-test")
MEASURES = {"orders": "count(*)", "amount": "sum(cast(orderAmount as decimal(18,2)))", "most": "max(orderId)"}

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
    window=Session("1 minute"),
    measures=MEASURES,
    emit=Final(
        topic=f"{NAME}-visits",
        dead_letters=f"{NAME}-visits-failed",
        idle_after=os.environ.get("TEST_IDLE_AFTER"),
    ),
)

by_fives = Aggregate(
    "by_fives",
    source=orders,
    by=["customerId"],
    window=Count(5),
    measures=MEASURES,
    emit=Final(topic=f"{NAME}-by-fives", partitions=3),
)

alerts = Alert(
    f"{NAME}-alerts",
    source=visits,
    when="orders > 2 or revision > 1",
    columns={"customerId": "customerId", "windowStart": "windowStart", "windowEnd": "windowEnd", "most": "most"},
    made_by="orders-alerts",
)
