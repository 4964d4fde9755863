"""The real services on one machine without containers: Kafka, schema registry, Postgres.

`up` starts what the environment does not give, `down` stops it, `state` and `doctor` tell how things are, `processes`
runs Headrace's own long-running processes. Imported by `cli` and tests only.
"""

from __future__ import annotations

from stack import processes
from stack.doctor import Finding, doctor
from stack.home import Endpoints, Home
from stack.local import SERVICES, ServiceState, down, state, up
from stack.progress import Event, Progress, console, silent

__all__ = [
    "SERVICES",
    "Endpoints",
    "Event",
    "Finding",
    "Home",
    "Progress",
    "ServiceState",
    "console",
    "doctor",
    "down",
    "processes",
    "silent",
    "state",
    "up",
]
