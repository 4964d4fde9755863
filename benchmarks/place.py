"""Where the benchmarks live: a stack home of their own below the usual one, its services, and fresh databases in it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

import stack
from headrace import settings
from ledger.migrations import migrate
from stack import postgres


@dataclass(frozen=True)
class Place:
    """Running services, and the account that may make databases."""

    home: stack.Home
    endpoints: stack.Endpoints
    admin_url: str

    @property
    def environment(self) -> dict[str, str]:
        """`HEADRACE_*` of every process of a benchmark, the database left out."""
        return {
            "HEADRACE_HOME": str(self.home.root),
            "HEADRACE_CATALOG": "benchmarks.catalog",
            "HEADRACE_LANDING": str(self.home.folder("landing")),
            "HEADRACE_KAFKA_BOOTSTRAP": self.endpoints.kafka_bootstrap or "",
            "HEADRACE_REGISTRY_URL": self.endpoints.registry_url or "",
        }


@contextmanager
def opened() -> Iterator[Place]:
    """Services for the benchmarks: those that the environment gives, the rest started here and stopped at the end."""
    home = stack.Home(settings.home_dir() / "bench")
    given = stack.Endpoints.given()
    try:
        with stack.console() as progress:
            endpoints = stack.up(progress=progress, home=home)
        admin_url = given.postgres_url or postgres.url(home, "postgres", postgres.SUPERUSER)
        place = Place(home, endpoints, admin_url)
        os.environ.update(place.environment)
        settings.settings.cache_clear()
        yield place
    finally:
        stack.down(home=home)


@contextmanager
def database(place: Place) -> Iterator[str]:
    """URL of a new database with an empty ledger, dropped at the end."""
    name = f"bench_{uuid.uuid4().hex[:12]}"
    url = place.endpoints.postgres_url or ""
    owner = urlsplit(url).username or postgres.SUPERUSER
    names = sql.Identifier(name), sql.Identifier(owner)
    with psycopg.connect(place.admin_url, autocommit=True) as admin:
        admin.execute(sql.SQL("create database {} template template0 owner {}").format(*names))
    try:
        fresh = urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
        migrate(fresh)
        yield fresh
    finally:
        with psycopg.connect(place.admin_url, autocommit=True) as admin:
            admin.execute(sql.SQL("drop database if exists {} with (force)").format(names[0]))
            admin.execute(
                "checkpoint"
            )  # the next run starts with clean buffers, not in the middle of this one's writes
