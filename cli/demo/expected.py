"""What the demo has to show: its tables and the exact list of its checks."""

from __future__ import annotations

TABLES = ("customer_order_totals", "product_sales")
NAMES = (
    "produced",  # manifest: produced = in the log + rejected lines
    "rejected_lines",  # manifest: rejected lines by reason
    "dead_letters",  # manifest: dead letters by reason
    *(f"fates:{table}" for table in TABLES),  # consumed = applied + late + ... + control, every partition
    *(f"offsets:{table}" for table in TABLES),  # next - first offset = consumed + gaps, every partition
    *(f"recount:{table}" for table in TABLES),  # an independent reader finds what the table consumed, offset by offset
    *(f"rows:{table}" for table in TABLES),  # all rows and columns equal those of an independent recomputation
)
