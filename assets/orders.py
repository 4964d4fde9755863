"""The orders system: orders as they are created, summed per customer and per product."""

from __future__ import annotations

from datetime import date

from topology import Aggregate, Between, EventTime, Expect, FileSource, Holds, NotNull, Topic, Tumbling, Unique

OWNERS = ("team:orders",)

order_created = Topic(
    "order-created-events",
    schema="orders/order_created.avsc",
    key="customerId",
    event_time=EventTime("orderTimestamp", "iso8601"),
    partitions=4,
    pipeline="orders",
    dead_letters="failed-orders",
    require={"positive_amount": "orderAmount > 0"},
    not_before="2026-01-01",
    description="Every order, as it is created.",
    owners=OWNERS,
)

orders_csv = FileSource(
    "orders_csv", topic=order_created, path="orders/*.csv", format="csv", description="Nightly exports of the shop."
)
orders_json = FileSource(
    "orders_json", topic=order_created, path="orders/*.jsonl", format="json", description="Exports of the mobile app."
)

customer_order_totals = Aggregate(
    "customer_order_totals",
    source=order_created,
    by=["customerId"],
    measures={
        "orders": "count(*)",
        "totalAmount": "sum(cast(orderAmount as decimal(18,2)))",
        "smallestOrder": "min(cast(orderAmount as decimal(18,2)))",
        "largestOrder": "max(cast(orderAmount as decimal(18,2)))",
        "averageOrder": "avg(cast(orderAmount as decimal(18,2)))",
    },
    description="All orders of a customer, whatever their status.",
    owners=OWNERS,
)

product_sales = Aggregate(
    "product_sales",
    source=order_created,
    where="status = 'COMPLETED'",
    by=["productId"],
    window=Tumbling("15 minutes"),
    allowed_lateness="5 minutes",
    measures={"salesAmount": "sum(cast(orderAmount as decimal(18,2)))", "orders": "count(*)"},
    description="Completed sales per product and quarter of an hour.",
    owners=OWNERS,
)

customer_order_totals_expected = Expect(
    customer_order_totals,
    critical={
        "customer_stored_once": Unique("customerId"),
        "total_known": NotNull("totalAmount"),
        "total_not_negative": Between("totalAmount", minimum=0),
        "smallest_average_largest": Holds("smallestOrder <= averageOrder and averageOrder <= largestOrder"),
        "total_between_extremes": Holds("totalAmount between smallestOrder * orders and largestOrder * orders"),
    },
    warning={
        "customer_named": Holds("customerId <> ''"),
        "plausible_orders": Between("orders", minimum=1, maximum=1_000_000),
        "plausible_largest": Between("largestOrder", maximum=1_000_000),
    },
)

product_sales_expected = Expect(
    product_sales,
    critical={
        "sales_known": NotNull("salesAmount"),
        "sales_not_negative": Between("salesAmount", minimum=0),
        "orders_counted": Between("orders", minimum=1),
        "window_aligned": Holds("extract(epoch from windowStart) % 900 = 0"),
        "after_first_day": Between("windowStart", minimum=date(2026, 1, 1)),
    },
    warning={
        "product_named": Holds("productId <> ''"),
        "plausible_sales": Between("salesAmount", maximum=10_000_000),
        "no_future_window": Holds("windowStart < now() + interval '1 hour'"),
    },
)
