"""Alerts on final rows of sales per product, a re-keyed copy of them; `TEST_TOPIC`, `TEST_PARTITIONS` as elsewhere."""

import os

from topology import Aggregate, Alert, Derived, EventTime, Final, Latest, Topic, Tumbling

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
    derived={"basket": "salesAmount / orders"},
    emit=Final(topic=f"{NAME}-product-sales", partitions=3, dead_letters=f"{NAME}-product-sales-failed"),
)

big_sales = Alert(
    f"{NAME}-big-sales",
    source=product_sales,
    when="salesAmount > 3000",
    columns={
        "productId": "productId",
        "windowStart": "windowStart",
        "windowEnd": "windowEnd",
        "salesAmount": "salesAmount",
        "basket": "basket",
        "revision": "revision",
    },
)

first_results = Alert(
    f"{NAME}-first-results",
    source=product_sales,
    when="revision = 1 and orders >= 5",
    columns={"productId": "productId", "windowEnd": "windowEnd", "orders": "orders"},
)

# Tables over final rows read them through a Derived; one row for each window, whatever the number of its revisions.
quarters = Derived(
    f"{NAME}-quarters",
    source=product_sales.final,
    key="quarter",
    columns={
        "quarter": "productId || ' ' || epoch_ms(windowStart)",
        "windowEnd": "windowEnd",
        "orders": "orders",
        "revision": "revision",
    },
    require={"plausible": "orders < 10"},
    pipeline="quarters",
)

newest_quarters = Latest("newest_quarters", source=quarters, by=["quarter"], columns=["orders", "revision"])
