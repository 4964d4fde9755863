"""Orders, payments and shipments side by side, each topic with a worker group: `TEST_TOPIC`, `TEST_RIGHT_TOPIC`, ..."""

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
shipments = replace(orders, name=os.environ.get("TEST_THIRD_TOPIC", "shipments-under-test"), pipeline="shipments")

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

shipment_rows = Latest(
    "shipment_rows", source=shipments, by=["customerId"], columns={"shipmentId": "orderId"}, history=True
)

sent_orders = Join(
    "sent_orders",
    left=paid_orders,
    right=shipment_rows,
    on={"customerId": "customerId"},
    within=("0 minutes", "12 hours"),
    kind="left",
    lateness="5 minutes",
)
