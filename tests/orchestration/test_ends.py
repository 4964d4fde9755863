"""End offsets in a run's metadata: from a real Kafka, and when there is none."""

from __future__ import annotations

import time

from headrace.deadline import Deadline
from headrace.settings import load
from ingestion.ingest import prepare
from orchestration.ingest import ends
from tests.conftest import Services
from topology import EventTime, Topic


def test_ends_of_a_topic(stack: Services, database: str, topic_name: str) -> None:
    topic = Topic(topic_name, "orders/order_created.avsc", "customerId", EventTime("orderTimestamp", "iso8601"), 2)
    settings = load()
    prepare(settings, [topic])
    deadline = Deadline.after(120)
    while isinstance(ends(settings, topic), str) and not deadline.passed():  # a topic this young has no leaders yet
        time.sleep(0.1)
    assert ends(settings, topic) == {0: 0, 1: 0}
    gone = settings.model_copy(update={"kafka_bootstrap": "127.0.0.1:9"})
    why = ends(gone, topic, seconds=1.0)
    assert isinstance(why, str) and why and "\n" not in why
