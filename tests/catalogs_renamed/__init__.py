"""A pipeline whose name does not fit Dagster."""

from topology import Aggregate, EventTime, Topic

topic = Topic(
    "a-b.c", schema="orders/order_created.avsc", key="customerId", event_time=EventTime("orderTimestamp", "iso8601")
)
totals = Aggregate("totals", source=topic, by=["customerId"], measures={"orders": "count(*)"})
