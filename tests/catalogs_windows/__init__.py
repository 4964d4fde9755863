"""One table of each kind of window over orders."""

from topology import Aggregate, Between, Count, EventTime, Expect, Hopping, Session, Topic, Tumbling, Unique

orders = Topic(
    "orders-in-windows",
    schema="orders/order_created.avsc",
    key="customerId",
    event_time=EventTime("orderTimestamp", "iso8601"),
    partitions=2,
    not_before="2026-01-01",
)

per_minute = Aggregate(
    "per_minute",
    source=orders,
    by=["customerId"],
    window=Hopping("10 minutes", every="4 minutes"),
    measures={"orders": "count(*)"},
)
few_per_minute = Expect(
    per_minute, critical={"few": Between("orders", maximum=1)}, warning={"once": Unique("customerId", "windowStart")}
)

per_day = Aggregate(
    "per_day",
    source=orders,
    by=["productId"],
    window=Tumbling("1 day", zone="Europe/Berlin"),
    measures={"orders": "count(*)", "customers": "count(distinct customerId)"},
    derived={"perCustomer": "orders / customers"},
)
loyal = Expect(per_day, critical={"once": Between("perCustomer", maximum=1.5)})

visits = Aggregate(
    "visits",
    source=orders,
    by=["customerId"],
    window=Session("30 minutes"),
    measures={"orders": "count(*)"},
)
short_visits = Expect(
    visits, critical={"few": Between("orders", maximum=2)}, warning={"once": Unique("customerId", "windowStart")}
)

by_threes = Aggregate(
    "by_threes", source=orders, by=["customerId"], window=Count(3), measures={"last": "last(orderId)"}
)
numbered = Expect(
    by_threes,
    critical={"few": Between("windowRecords", maximum=2)},
    warning={"once": Unique("customerId", "windowNumber")},
)
