"""Tables that emit changes, alerts on what happens to rows; `TEST_TOPIC`, `TEST_PARTITIONS` in the environment."""

import os

from topology import Aggregate, Alert, Changes, EventTime, Latest, Session, Topic

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

large = Latest("large", source=orders, by=["customerId"], columns=["orderId", "status"], where="orderAmount > 100")

failures = Alert(
    f"{NAME}-failures",
    source=large,
    when="status = 'FAILED' and previous_status is distinct from 'FAILED'",
    columns={
        "customerId": "customerId",
        "valid_from": "valid_from",
        "orderId": "orderId",
        "before": "previous_orderId",
    },
    partitions=3,
)
