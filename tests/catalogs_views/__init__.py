"""Sales per product with views that follow from them."""

from topology import Aggregate, EventTime, Rolling, Topic, TopK, Tumbling

orders = Topic(
    "orders-viewed",
    schema="orders/order_created.avsc",
    key="customerId",
    event_time=EventTime("orderTimestamp", "iso8601"),
    pipeline="orders",
    not_before="2026-01-01",
    owners=("team:orders",),
)

product_sales = Aggregate(
    "product_sales",
    source=orders,
    by=["productId"],
    window=Tumbling("15 minutes"),
    measures={"salesAmount": "sum(cast(orderAmount as decimal(18,2)))"},
)

sales_lately = Rolling(
    "product_sales_lately",
    product_sales,
    windows=4,
    columns={"average": "avg(salesAmount)", "trend": "trend(salesAmount)", "unusual": "anomaly(salesAmount)"},
)

best_products = TopK("best_products", product_sales, k=10, by="salesAmount", description="What sells.")
