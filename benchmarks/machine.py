"""What the figures depend on: the machine, the versions, the settings of Postgres."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from typing import Any

import confluent_kafka
import psutil
import psycopg

from benchmarks.place import Place
from stack import artifacts

_PACKAGES = ("headrace", "confluent-kafka", "pyruhvro", "pyarrow", "duckdb", "psycopg", "numpy")
_SHOWN = ("fsync", "synchronous_commit", "shared_buffers", "full_page_writes", "wal_level")
_TUNED = ("HEADRACE_BATCH_RECORDS", "HEADRACE_POLL_SECONDS", "HEADRACE_TRANSACTION_RECORDS", "HEADRACE_KAFKA_CONFIG")


def describe(place: Place) -> dict[str, Any]:
    """Machine, versions and settings, for the report."""
    with psycopg.connect(place.admin_url) as db:
        postgres = {name: str((db.execute(f"show {name}".encode()).fetchone() or ("",))[0]) for name in _SHOWN}
        server = str((db.execute("show server_version").fetchone() or ("",))[0])
    kafka = next((a.version for a in artifacts.locked()["kafka"] if a.name.startswith("kafka_")), "")
    return {
        "machine": {
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            "cpus": os.cpu_count(),
            "memory_mb": round(psutil.virtual_memory().total / 1e6),
            "load": [round(value, 2) for value in os.getloadavg()],
        },
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in _PACKAGES},
            "librdkafka": confluent_kafka.libversion()[0],
            "kafka": kafka,
            "postgres": server,
        },
        "postgres": postgres,
        "settings": {name: os.environ[name] for name in _TUNED if name in os.environ},
    }
