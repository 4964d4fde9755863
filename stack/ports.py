"""Ports: a preferred one per service, the next free one when it is taken, and the same one again next time.

Checkouts of one user reserve their ports in the cache folder, so that two that start at the same moment, or one that is
down just now, do not take each other's.
"""

from __future__ import annotations

import errno
import fcntl
import json
import socket
from pathlib import Path

from headrace.errors import ServiceFailed
from stack.artifacts import cache_dir
from stack.home import Home, read_json, write_private

HOST = "127.0.0.1"
PREFERRED = {
    "postgres": 15432,
    "kafka": 19092,
    "kafka-controller": 19093,
    "registry": 19081,
    "registry-management": 19082,
    "dagster-webserver": 13000,
}
_TRIES = 200


def remembered(home: Home, name: str) -> int | None:
    """The port that the service had last time."""
    port = read_json(home.root / "ports.json").get(name)
    return port if isinstance(port, int) else None


def choose(home: Home, name: str) -> int:
    """A free port for a service that is about to start; raises `ServiceFailed` when there is none."""
    cache_dir().mkdir(parents=True, exist_ok=True)
    with (cache_dir() / ".ports.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        table = cache_dir() / "ports.json"
        taken = {port: owner for port, owner in read_json(table).items() if Path(str(owner).split("#")[0]).is_dir()}
        port = _first_free(home, name, taken)
        ours = f"{home.root}#{name}"
        taken = {p: owner for p, owner in taken.items() if owner != ours} | {str(port): ours}
        home.folder()
        write_private(table, json.dumps(taken))
        remember(home, name, port)
    return port


def remember(home: Home, name: str, port: int) -> None:
    """Note where a service is about to listen: `choose` and other commands look there first."""
    write_private(home.root / "ports.json", json.dumps(read_json(home.root / "ports.json") | {name: port}))


def _first_free(home: Home, name: str, taken: dict[str, object]) -> int:
    ours = f"{home.root}#{name}"
    last = remembered(home, name)
    start = PREFERRED[name]
    # Steps of ten keep the ports of one checkout next to each other: 19092, 19102, ...
    candidates = ([last] if last else []) + [start + step * 10 for step in range(_TRIES)]
    for port in candidates:
        if taken.get(str(port), ours) == ours and free(port):
            return port
    raise ServiceFailed(
        f"no free port for {name} between {start} and {start + _TRIES * 10}; stop what holds them, "
        "then run `headrace up` again"
    )


def free(port: int) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket() as probe:
        probe.settimeout(0.2)
        if probe.connect_ex((HOST, port)) == 0:
            return False
    with socket.socket() as probe:
        # As the servers do: a connection in TIME_WAIT must not make us move to another port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL):
                return False
            raise
    return True


def answers(port: int) -> bool:
    """Whether something accepts connections on the port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((HOST, port)) == 0
