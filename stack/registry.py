"""Apicurio: a schema registry with the Confluent API, its schemas stored in Postgres."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable

from headrace.deadline import Deadline
from stack import artifacts, java, ports, postgres, processes
from stack.home import Home
from stack.ports import HOST
from stack.progress import Progress

NAME = "registry"


def start(home: Home, progress: Progress, stopped: Callable[[], bool]) -> None:
    """Start the registry on the running local Postgres and return when it answers.

    Raises `ServiceFailed`, with the log's end when the registry ended.
    """
    bundle = artifacts.fetch("apicurio", progress)
    if not processes.alive(NAME, home=home):
        port, management = ports.choose(home, NAME), ports.choose(home, "registry-management")
        processes.start(
            NAME,
            [
                *java.command(java.heap(NAME, "256m")),
                "-Djava.util.logging.manager=org.jboss.logmanager.LogManager",
                *("-jar", bundle / "quarkus-run.jar"),
            ],
            # In the environment rather than on the command line, where everyone on the machine could read the password.
            env=_environment(home, port, management),
            home=home,
            cwd=home.folder(NAME),
        )
    processes.wait_ready(NAME, lambda: _answers(home), Deadline.after(120), home=home, stopped=stopped)


def url(home: Home) -> str:
    """Address of the Confluent-compatible API."""
    return f"http://{HOST}:{ports.remembered(home, NAME)}/apis/ccompat/v7"


def _environment(home: Home, port: int, management: int) -> dict[str, str]:
    return {
        "QUARKUS_HTTP_HOST": HOST,
        "QUARKUS_HTTP_PORT": str(port),
        "QUARKUS_MANAGEMENT_HOST": HOST,  # by default it listens on every interface
        "QUARKUS_MANAGEMENT_PORT": str(management),
        "QUARKUS_BANNER_ENABLED": "false",
        "QUARKUS_HTTP_ACCESS_LOG_ENABLED": "false",
        "APICURIO_STORAGE_KIND": "sql",
        "APICURIO_STORAGE_SQL_KIND": "postgresql",
        "APICURIO_DATASOURCE_URL": f"jdbc:postgresql://{HOST}:{ports.remembered(home, postgres.NAME)}/registry",
        "APICURIO_DATASOURCE_USERNAME": "registry",
        "APICURIO_DATASOURCE_PASSWORD": home.secret("postgres:registry"),
        "APICURIO_DATASOURCE_JDBC_INITIAL_SIZE": "2",
        "APICURIO_DATASOURCE_JDBC_MIN_SIZE": "2",
        "APICURIO_DATASOURCE_JDBC_MAX_SIZE": "10",
    }


def _answers(home: Home) -> bool:
    port = ports.remembered(home, NAME)
    if port is None or not ports.answers(port):
        return False
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            f"{url(home)}/subjects", timeout=3
        ) as ok:
            return bool(ok.status == 200)
    except (urllib.error.URLError, OSError):
        return False
