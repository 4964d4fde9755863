"""The orders system over a topic of the test's own: `TEST_TOPIC`, `TEST_PARTITIONS` in the environment.

`TEST_DEAD_LETTERS` names a dead-letter topic. `TEST_ANY_AMOUNT` leaves out the condition that keeps amounts positive,
so that a fault reaches the tables. `TEST_JSON` makes it a topic of JSON objects.
"""

import os

from topology import Aggregate, Between, EventTime, Expect, Holds, NotNull, Topic, Tumbling, Unique

orders = Topic(
    os.environ.get("TEST_TOPIC", "orders-under-test"),
    schema="orders/order_created.avsc",
    key="customerId",
    event_time=EventTime("orderTimestamp", "iso8601"),
    partitions=int(os.environ.get("TEST_PARTITIONS", "4")),
    pipeline="orders",
    dead_letters=os.environ.get("TEST_DEAD_LETTERS"),
    require={} if os.environ.get("TEST_ANY_AMOUNT") else {"positive_amount": "orderAmount > 0"},
    not_before="2026-01-01",
    format="json" if os.environ.get("TEST_JSON") else "avro",
)

customer_order_totals = Aggregate(
    "customer_order_totals",
    source=orders,
    by=["customerId"],
    measures={
        "orders": "count(*)",
        "totalAmount": "sum(cast(orderAmount as decimal(18,2)))",
        "smallestOrder": "min(cast(orderAmount as decimal(18,2)))",
        "largestOrder": "max(cast(orderAmount as decimal(18,2)))",
        "averageOrder": "avg(cast(orderAmount as decimal(18,2)))",
    },
)

product_sales = Aggregate(
    "product_sales",
    source=orders,
    where="status = 'COMPLETED'",
    by=["productId"],
    window=Tumbling("15 minutes"),
    allowed_lateness="5 minutes",
    measures={"salesAmount": "sum(cast(orderAmount as decimal(18,2)))", "orders": "count(*)"},
)

totals_expected = Expect(
    customer_order_totals,
    critical={
        "customer_stored_once": Unique("customerId"),
        "total_known": NotNull("totalAmount"),
        "total_not_negative": Between("totalAmount", minimum=0),
        "average_between": Holds("averageOrder between smallestOrder and largestOrder"),
    },
    warning={"smallest_not_negative": Between("smallestOrder", minimum=0)},
)
sales_expected = Expect(
    product_sales,
    critical={
        "sales_not_negative": Between("salesAmount", minimum=0),
        "window_aligned": Holds("extract(epoch from windowStart) % 900 = 0"),
    },
    warning={"few_orders": Between("orders", minimum=1, maximum=1_000)},
)

if os.environ.get("TEST_TABLE_ADDED"):
    orders_per_status = Aggregate(
        "orders_per_status",
        source=orders,
        by=["status"],
        window=Tumbling("1 day"),
        measures={"orders": "count(*)", "quantity": "sum(quantity)"},
    )
