"""A real Dagster beside the session's services: code server, webserver and daemon, as the demo starts them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from dagster import DagsterInstance
from psycopg import sql

from cli import dagster_services
from headrace.deadline import Deadline
from orchestration.client import Location, Webserver
from stack import Home, dagster_home
from tests.conftest import Services


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


@pytest.fixture(scope="module")
def dagster_database(stack: Services) -> Iterator[str]:
    """URL of an empty database for a Dagster of the module's own: one daemon per storage."""
    name = f"dagster_{uuid.uuid4().hex[:12]}"
    parts = urlsplit(stack.dagster_postgres_url)
    owner = sql.Identifier(parts.username or "dagster")
    with psycopg.connect(stack.admin_url, autocommit=True) as db:
        db.execute(sql.SQL("create database {} template template0 owner {}").format(sql.Identifier(name), owner))
    try:
        yield urlunsplit(parts._replace(path=f"/{name}"))
    finally:
        with psycopg.connect(stack.admin_url, autocommit=True) as db:
            db.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))


@pytest.fixture(scope="module")
def instance(dagster_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DagsterInstance]:
    """A Dagster instance of the module's own, as `headrace up` configures it, with its storage in the real Postgres."""
    place = Home(tmp_path_factory.mktemp("dagster-home"))
    dagster_home.write(place, dagster_database)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(dagster_home.VARIABLE, dagster_database)
        with DagsterInstance.from_config(str(dagster_home.folder(place))) as found:
            yield found
