"""Questions to a broker that has just started."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import stack as services
from headrace.settings import ROOT, load
from stream_workers.log import LogAdmin
from tests.stream_workers.harness import Rig

CHILD = """
from concurrent.futures import ThreadPoolExecutor
from headrace.errors import ServiceUnavailable
from headrace.settings import load
from stream_workers.log import LogAdmin
kafka = LogAdmin(load())
def ask(number):
    try:
        return kafka.committed(f"group-{number}", "nothing", 0) is None
    except ServiceUnavailable as error:
        print(error)
        return False
with ThreadPoolExecutor(50) as threads:
    print("answers", sum(threads.map(ask, range(50))))
"""


def test_a_broker_without_a_coordinator_yet_ends_no_process(home: Path) -> None:
    """The first question about any group makes the broker create the topic that coordinators need."""
    with tempfile.TemporaryDirectory(prefix="headrace-fresh-") as folder:
        place = services.Home(Path(folder).resolve())
        try:
            found = services.up(only=("kafka",), home=place)
            env = {**os.environ, "HEADRACE_KAFKA_BOOTSTRAP": found.kafka_bootstrap or ""}
            done = subprocess.run(
                [sys.executable, "-c", CHILD], env=env, cwd=ROOT, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, (done.returncode, done.stdout, done.stderr[-2000:])
            assert int(done.stdout.split("answers ")[1]) > 0
        finally:
            services.down(home=place)


def test_offset_and_metadata_of_a_group(rig: Rig, topic_name: str) -> None:
    from confluent_kafka import Consumer, TopicPartition

    kafka, group = LogAdmin(load()), f"{topic_name}-group"
    rig.wait(lambda: kafka.committed(group, rig.topic, 1) is None, alive=False)
    consumer = Consumer(load().kafka(group_id=group))
    consumer.commit(offsets=[TopicPartition(rig.topic, 1, 7, "born")], asynchronous=False)
    consumer.close()
    assert kafka.committed(group, rig.topic, 1) == (7, "born")
    assert kafka.committed(group, rig.topic, 0) is None
