"""Apache Kafka: one node that is broker and controller (KRaft), keeping every record for ever."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path

from headrace.deadline import Deadline
from headrace.errors import ServiceFailed
from stack import artifacts, java, ports, processes
from stack.home import Home, write_private
from stack.ports import HOST
from stack.progress import Progress

NAME = "kafka"
_FOR_EVER = str(2**31 - 1)
_SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "false",
    # Tables can be recomputed from the log only while the log has everything.
    "log.retention.ms": "-1",
    "log.retention.bytes": "-1",
    # Positions of files and groups live in committed offsets; the default forgets them after seven idle days.
    "offsets.retention.minutes": _FOR_EVER,
    "transactional.id.expiration.ms": _FOR_EVER,
    "default.replication.factor": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # A producer that died holds back read_committed readers until its transaction times out and this check runs.
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    "group.initial.rebalance.delay.ms": "0",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "socket.send.buffer.bytes": "1048576",
    "socket.receive.buffer.bytes": "1048576",
    # After a crash the broker is let in again when the session of its former self has run out; the default is 9 s.
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "3000",
}
_LOGGING = """\
status = ERROR
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{yyyy-MM-dd'T'HH:mm:ss.SSS}{UTC}Z %p %c{1} %m%n
rootLogger.level = WARN
rootLogger.appenderRef.out.ref = out
"""


def start(home: Home, progress: Progress, stopped: Callable[[], bool]) -> None:
    """Start the broker (first formatting its folder) and return when it answers with itself as a broker.

    Raises `ServiceFailed`, with the log's end when the broker ended.
    """
    bundle = artifacts.fetch(NAME, progress)
    if not processes.alive(NAME, home=home):
        folder = home.folder(NAME)
        properties = _write_settings(home, folder)
        if not (folder / "data" / "meta.properties").exists():
            _format(home, folder, bundle, properties)
        processes.start(
            NAME,
            [
                *java.command(java.heap(NAME, "384m")),
                f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}",
                *("-cp", f"{bundle}/*", "kafka.Kafka", properties),
            ],
            home=home,
            cwd=folder,
        )
    processes.wait_ready(NAME, lambda: _answers(home), Deadline.after(90), home=home, stopped=stopped)


def bootstrap(home: Home) -> str:
    """host:port of the broker."""
    return f"{HOST}:{ports.remembered(home, NAME)}"


def _write_settings(home: Home, folder: Path) -> Path:
    broker, controller = ports.choose(home, NAME), ports.choose(home, "kafka-controller")
    settings = _SETTINGS | {
        "controller.quorum.voters": f"1@{HOST}:{controller}",
        "listeners": f"PLAINTEXT://{HOST}:{broker},CONTROLLER://{HOST}:{controller}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{broker}",
        "log.dirs": str(folder / "data"),
    }
    properties = folder / "server.properties"
    write_private(properties, "\n".join(f"{key}={value}" for key, value in settings.items()))
    write_private(folder / "log4j2.properties", _LOGGING)
    return properties


def _format(home: Home, folder: Path, bundle: Path, properties: Path) -> None:
    shutil.rmtree(folder / "data", ignore_errors=True)  # without meta.properties: a format that was cut off
    cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    if cluster.startswith("-"):  # the tool would read it as an option
        cluster = "A" + cluster[1:]
    tool = ["-cp", f"{bundle}/*", "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(properties)]
    logging = f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}"
    done = subprocess.run(
        [*java.command("128m"), logging, *tool],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ServiceFailed(
            f"Kafka's folder {folder} cannot be formatted:\n{(done.stdout + done.stderr)[-2000:]}\n"
            "nothing was kept; run `headrace doctor`"
        )


def _answers(home: Home) -> bool:
    port = ports.remembered(home, NAME)
    if port is None or not ports.answers(port):
        return False
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    try:
        client = AdminClient({"bootstrap.servers": bootstrap(home), "log_level": 0, "socket.timeout.ms": 3000})
        return bool(client.list_topics(timeout=2).brokers)
    except KafkaException:
        return False
