"""Orders derived: re-keyed by product and enriched, routed by amount, alerts; a table over what was re-keyed."""

import os

from topology import Aggregate, Alert, Derived, EventTime, Topic, Tumbling

NAME = os.environ.get("TEST_TOPIC", "orders-under-test")

orders = Topic(
    NAME,
    schema="orders/order_created.avsc",
    key="customerId",
    event_time=EventTime("orderTimestamp", "iso8601"),
    partitions=int(os.environ.get("TEST_PARTITIONS", "4")),
    pipeline="orders",
    dead_letters=f"{NAME}-failed",
    require={"positive_amount": "orderAmount > 0"},
    not_before="2026-01-01",
)

by_product = Derived(
    f"{NAME}-by-product",
    source=orders,
    key="productId",
    columns={
        "productId": "productId",
        "orderId": "orderId",
        "cents": "cast(round(orderAmount * 100) as bigint)",
        "orderTimestamp": "orderTimestamp",
        "kind": "case when quantity >= 5 then 'bulk' end",
        "status": "status",
    },
    require={"not_too_much": "cents < 45000"},
    partitions=3,
    pipeline="by-product",
    dead_letters=f"{NAME}-by-product-failed",
)

large = Derived(
    f"{NAME}-large",
    source=orders,
    key="orderId",
    where="orderAmount >= 250 and status = 'COMPLETED'",
    columns={"orderId": "orderId", "at": "orderTimestamp", "amount": "orderAmount"},
    pipeline="large",
)

alerts = Alert(
    f"{NAME}-alerts",
    source=orders,
    when="quantity >= 8 and status = 'FAILED'",
    columns={"customerId": "customerId", "at": "orderTimestamp", "quantity": "quantity"},
    pipeline="alerts",
)

bulk = Derived(
    f"{NAME}-bulk",
    source=by_product,
    key="orderId",
    where="kind = 'bulk'",
    columns={"orderId": "orderId", "at": "orderTimestamp", "euros": "cents / 100"},
    pipeline="bulk",
)

product_totals = Aggregate(
    "product_totals",
    source=by_product,
    by=["productId"],
    window=Tumbling("1 hour"),
    measures={"cents": "sum(cents)", "orders": "count(*)", "bulk": "count(kind)"},
)
