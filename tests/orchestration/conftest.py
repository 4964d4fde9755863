"""A real Dagster beside the session's services: code server, webserver and daemon, as the demo starts them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli import dagster_services
from headrace.deadline import Deadline
from orchestration.client import Location, Webserver
from stack import Home


@dataclass(frozen=True)
class Dagster:
    """A running Dagster; landing: the folder in which its runs find files."""

    webserver: Webserver
    location: Location
    landing: Path


@pytest.fixture(scope="session")
def dagster(stack: object, home: Path) -> Iterator[Dagster]:
    place = Home(home)
    url: str = stack.dagster_postgres_url  # type: ignore[attr-defined]  # conftest of all tests: Services
    dagster_services.start_code_server(place, url)
    dagster_services.start_webserver(place, url)
    try:
        webserver, location = dagster_services.wait(place, Deadline.after(180))
        yield Dagster(webserver, location, home / "landing")
    finally:
        dagster_services.stop(place, list(dagster_services.NAMES))
