"""Dagster beside the other local services: one code server, the webserver and the daemon.

`dagster dev` starts the same parts, one after the other, each with its own look at the definitions. Here all three
start at once and the two others ask the code server, so that definitions are loaded a single time.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path

from headrace.deadline import Deadline
from headrace.errors import ServiceFailed, ServiceUnavailable
from headrace.settings import ROOT
from orchestration.client import Location, Webserver
from stack import dagster_home, ports, processes
from stack.home import Home

MODULE = "orchestration.definitions"
LOCATION = "headrace"
CODE, WEBSERVER, DAEMON = "dagster-code", "dagster-webserver", "dagster-daemon"
DEV = "dagster-dev"  # all three under one process: `headrace dev`
NAMES = (DAEMON, WEBSERVER, CODE)  # in the order of stopping
START_SECONDS = 120.0  # `import dagster` alone is seconds; on two cores that also start a broker it has taken 30
_POLL = 0.1


def url(home: Home | None = None) -> str | None:
    """Address of the webserver that runs on this machine, None when there is none."""
    home = home or Home()
    port = ports.remembered(home, WEBSERVER)
    up = any(processes.alive(name, home=home) for name in (WEBSERVER, DEV))
    return f"http://{ports.HOST}:{port}" if port and up else None


def storage_is_ready(home: Home) -> bool:
    """Whether Dagster's tables were made by an earlier start."""
    return (dagster_home.folder(home) / ".tables").exists()


def start_code_server(home: Home, postgres_url: str) -> bool:
    """Start the process that holds the definitions and starts runs. True if it was not up."""
    if processes.alive(CODE, home=home):
        return False
    socket = _socket(home)
    socket.unlink(missing_ok=True)
    command = [sys.executable, "-m", "dagster", "api", "grpc", "--socket", str(socket), "-m", MODULE]
    command += ["-d", str(Path.cwd()), "--use-python-environment-entry-point", "--log-level", "warning"]
    env = {**_environment(), **dagster_home.environment(home, postgres_url)}  # for the runs that it starts
    processes.start(CODE, command, env, home=home)
    return True


def start_webserver(home: Home, postgres_url: str) -> list[str]:
    """Start webserver and daemon on Dagster's storage; names of those that were not up. Does not wait."""
    started = [name for name in (WEBSERVER, DAEMON) if not processes.alive(name, home=home)]
    if not started:
        return []
    dagster_home.write(home, postgres_url)
    dagster_home.prepare_storage(home, postgres_url)
    workspace = dagster_home.folder(home) / "workspace.yaml"
    entry = {"socket": str(_socket(home)), "location_name": LOCATION}
    workspace.write_text(json.dumps({"load_from": [{"grpc_server": entry}]}) + "\n")
    env = {**_environment(), **dagster_home.environment(home, postgres_url)}
    target = ["-w", str(workspace)]
    if WEBSERVER in started:
        port = str(ports.choose(home, WEBSERVER))
        web = [sys.executable, "-m", "dagster_webserver", "-h", ports.HOST, "-p", port, "--log-level", "warning"]
        processes.start(WEBSERVER, [*web, *target], env, home=home)
    if DAEMON in started:
        processes.start(DAEMON, [sys.executable, "-m", "dagster._daemon", "run", *target], env, home=home)
    return started


def wait(home: Home, deadline: Deadline) -> tuple[Webserver, Location]:
    """The webserver and its loaded definitions; raises `ServiceFailed` with log lines when a process is gone."""
    while True:
        for name in NAMES:
            if not processes.alive(name, home=home):
                raise ServiceFailed(
                    f"{name} ended before it was ready; its last log lines:\n{processes.tail(name, home=home)}\n"
                    f"the whole log: {home.log_file(name)}; `headrace validate` checks the declarations"
                )
        address = url(home)
        if address:
            webserver = Webserver(address)
            try:
                location = webserver.location()
                if location:
                    return webserver, location
            except (ServiceUnavailable, ServiceFailed) as error:  # the code server may still be on its way
                if deadline.passed():
                    raise ServiceFailed(f"Dagster did not get ready in time: {error}") from error
        if deadline.passed():
            raise ServiceFailed(f"Dagster did not get ready in time; its log: {home.log_file(WEBSERVER)}")
        deadline.clock.wait(_POLL)


def stop(home: Home, names: list[str]) -> list[str]:
    """Stop these of Dagster's processes; the names of those that ran."""
    stopped = [name for name in NAMES if name in names and processes.stop(name, home=home)]
    if CODE in stopped:
        _socket(home).unlink(missing_ok=True)
    return stopped


def _environment() -> dict[str, str]:
    path = os.pathsep.join(part for part in (str(ROOT), os.environ.get("PYTHONPATH", "")) if part)
    return {"PYTHONPATH": path, "DAGSTER_DISABLE_TELEMETRY": "yes", "PYTHONUNBUFFERED": "1"}


def _socket(home: Home) -> Path:
    # A socket's path may have 107 bytes, so it cannot live in a home folder that may be deep.
    folder = Path(tempfile.gettempdir()) / f"headrace-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / f"{hashlib.sha256(str(home.root).encode()).hexdigest()[:12]}.sock"
