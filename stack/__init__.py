"""The real services on one machine without containers: Kafka, schema registry, Postgres.

`up` starts what the environment does not give, `down` stops it, `state` and `doctor` tell how things are, `processes`
runs Headrace's own long-running processes. Imported by `cli` and tests only.
"""

from stack import processes
from stack.home import Endpoints, Home
from stack.local import SERVICES, ServiceState, down, state, up
from stack.progress import Event, Progress, console

__all__ = [
    "SERVICES",
    "Endpoints",
    "Event",
    "Home",
    "Progress",
    "ServiceState",
    "console",
    "down",
    "processes",
    "state",
    "up",
]
