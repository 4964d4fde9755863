"""Orders and payments side by side, each topic with a worker group of its own: `TEST_TOPIC`, `TEST_RIGHT_TOPIC`."""

import os
from dataclasses import replace

from topology import EventTime, Join, Latest, Topic

orders = Topic(
    os.environ.get("TEST_TOPIC", "orders-under-test"),
    schema="orders/order_created.avsc",
    key="customerId",
    event_time=EventTime("orderTimestamp", "iso8601"),
    partitions=int(os.environ.get("TEST_PARTITIONS", "4")),
    pipeline="orders",
    require={"positive_amount": "orderAmount > 0"},
    not_before="2026-01-01",
    owners=("team:orders",),
)
payments = replace(orders, name=os.environ.get("TEST_RIGHT_TOPIC", "payments-under-test"), pipeline="payments")

order_rows = Latest("order_rows", source=orders, by=["customerId"], columns=["orderId"], history=True)
payment_rows = Latest(
    "payment_rows", source=payments, by=["customerId"], columns={"paymentId": "orderId"}, history=True
)

paid_orders = Join(
    "paid_orders",
    left=order_rows,
    right=payment_rows,
    on={"customerId": "customerId"},
    within=("-1 hour", "12 hours"),
    kind="left",
    lateness="5 minutes",
    description="What was paid.",
)
