"""One-minute windows with five seconds of lateness, late records applied and late records dropped, over one topic."""

import os

from topology import Aggregate, EventTime, Topic, Tumbling

orders = Topic(
    os.environ["TEST_TOPIC"],
    schema="orders/order_created.avsc",
    key="customerId",
    event_time=EventTime("orderTimestamp", "iso8601"),
    partitions=int(os.environ["TEST_PARTITIONS"]),
    pipeline="orders",
    not_before="2026-01-01",
)

sales_corrected = Aggregate(
    "sales_corrected",
    source=orders,
    by=["productId"],
    window=Tumbling("1 minute"),
    allowed_lateness="5 seconds",
    measures={"orders": "count(*)"},
)

sales_closed = Aggregate(
    "sales_closed",
    source=orders,
    by=["productId"],
    window=Tumbling("1 minute"),
    allowed_lateness="5 seconds",
    late="drop",
    measures={"orders": "count(*)"},
)
