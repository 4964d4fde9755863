"""What the demo has to show: its tables and the exact list of its checks."""

TABLES = ("customer_order_totals", "product_sales")
WINDOWED = ("product_sales",)
_OWN = (
    "produced",  # manifest: produced = in the log + rejected lines
    "rejected_lines",  # manifest: rejected lines by reason
    "dead_letters",  # manifest: dead letters by reason
    *(f"fates:{table}" for table in TABLES),  # consumed = applied + late + ... + control, every partition
    *(f"offsets:{table}" for table in TABLES),  # next - first offset = consumed + gaps, every partition
    *(f"recount:{table}" for table in TABLES),  # an independent reader finds what the table consumed, offset by offset
    *(f"rows:{table}" for table in TABLES),  # all rows and columns equal those of an independent recomputation
)
# Checks of the Dagster graph, evaluated by a run of Dagster.
_OF_A_TABLE = ("accounting", "recount", "freshness", "lag", "volume", "schema_drift")
_EXPECTATIONS = {
    "customer_order_totals": (
        "customer_stored_once",
        "total_known",
        "total_not_negative",
        "smallest_average_largest",
        "total_between_extremes",
        "customer_named",
        "plausible_orders",
        "plausible_largest",
    ),
    "product_sales": (
        "sales_known",
        "sales_not_negative",
        "orders_counted",
        "window_aligned",
        "after_first_day",
        "product_named",
        "plausible_sales",
        "no_future_window",
    ),
}
GRAPH = (
    *(f"kafka/order-created-events:{name}" for name in ("workers", "fleet", "schema_drift")),
    *(f"postgres/{table}:{name}" for table in TABLES for name in (*_OF_A_TABLE, *_EXPECTATIONS[table])),
)
NAMES = (*_OWN, *GRAPH, *(f"partitions:{table}" for table in WINDOWED))  # days in the table = materialized partitions
