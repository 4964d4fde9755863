"""Real services for tests: started once per session in a temporary home on free ports, stopped at the end, always.

`HEADRACE_TEST_USE=existing` uses running services instead (their addresses in `HEADRACE_*` or in the home's
`endpoints.json`; the Postgres account must be allowed to make databases).
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from confluent_kafka.admin import AdminClient
from psycopg import sql

import stack as services
from headrace import settings
from stack import kafka, postgres, processes, registry

# A shell that starts the tests in the background leaves SIGINT ignored, and every process of theirs would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_VARIABLES = {
    "HEADRACE_KAFKA_BOOTSTRAP": "kafka_bootstrap",
    "HEADRACE_REGISTRY_URL": "registry_url",
    "HEADRACE_POSTGRES_URL": "postgres_url",
    "HEADRACE_DAGSTER_POSTGRES_URL": "dagster_postgres_url",
}


@dataclass(frozen=True)
class Control:
    """Faults for one local service, of our own or the test skips. Ports stay the same over a restart."""

    name: str
    home: services.Home
    _start: Callable[[], None]

    @property
    def pid(self) -> int:
        """The pid of its main process."""
        running = processes.find(self.name, home=self.home)
        assert running, f"{self.name} is not up:\n{processes.tail(self.name, home=self.home)}"
        return running.pid

    def kill(self) -> None:
        """End it as a crash would (SIGKILL)."""
        self._ours()
        processes.kill(self.name, home=self.home)

    def stop(self) -> None:
        """Stop it in good order."""
        self._ours()
        processes.stop(self.name, home=self.home)

    def start(self) -> None:
        """Start it again and wait until it answers."""
        self._start()

    def restart(self, *, crash: bool = False) -> None:
        """Stop (or, with `crash`, kill) it and start it again."""
        if crash:
            self.kill()
        else:
            self.stop()
        self.start()

    def _ours(self) -> None:
        if _existing():
            pytest.skip(f"would stop {self.name}, which others use")


@dataclass(frozen=True)
class Services:
    """Addresses of the running services, the account that may make databases, and a switch for each service."""

    kafka_bootstrap: str
    registry_url: str
    postgres_url: str
    dagster_postgres_url: str
    admin_url: str
    home: Path
    kafka: Control
    postgres: Control
    registry: Control


@pytest.fixture(scope="session", autouse=True)
def home() -> Iterator[Path]:
    """A home of the session's own, so that no test ever sees the user's. Only the `stack` fixture starts anything."""
    if _existing():
        yield settings.home_dir()
        return
    folder = Path(tempfile.mkdtemp(prefix="headrace-test-")).resolve()
    folder.chmod(0o755)  # as root, Postgres runs as `nobody` and has to get here
    before = {name: os.environ.pop(name, None) for name in (*_VARIABLES, "HEADRACE_DAGSTER_URL", "DAGSTER_HOME")}
    before |= {name: os.environ.get(name) for name in ("HEADRACE_HOME", "HEADRACE_LANDING")}
    os.environ["HEADRACE_HOME"] = str(folder)
    os.environ["HEADRACE_LANDING"] = str(folder / "landing")
    settings.settings.cache_clear()
    try:
        yield folder
    finally:
        services.down(home=services.Home(folder))
        if not os.environ.get("HEADRACE_TEST_KEEP"):
            shutil.rmtree(folder, ignore_errors=True)
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@pytest.fixture(scope="session")
def stack(home: Path) -> Services:
    """The real Kafka, registry and Postgres of this session; `HEADRACE_*` in the environment point to them."""
    place = services.Home(home)
    if _existing():
        found = services.Endpoints.given().over(place.endpoints())
    else:
        os.environ.setdefault("HEADRACE_KAFKA_HEAP", "320m")
        found = services.up(home=place)
    addresses = {field: getattr(found, field) for field in _VARIABLES.values()}
    missing = [field for field, value in addresses.items() if not value]
    assert not missing, f"HEADRACE_TEST_USE=existing needs {missing}: run `headrace up` or set the variables"
    os.environ.update({variable: addresses[field] for variable, field in _VARIABLES.items()})
    settings.settings.cache_clear()

    def starter(name: str) -> Callable[[], None]:
        def start() -> None:
            if name == kafka.NAME:
                kafka.start(place, services.silent, lambda: False)
            elif name == postgres.NAME:
                postgres.start(place, lambda: False)
            else:
                registry.start(place, services.silent, lambda: False)

        return start

    return Services(
        **addresses,
        admin_url=addresses["postgres_url"] if _existing() else postgres.url(place, "postgres", postgres.SUPERUSER),
        home=home,
        kafka=Control(kafka.NAME, place, starter(kafka.NAME)),
        postgres=Control(postgres.NAME, place, starter(postgres.NAME)),
        registry=Control(registry.NAME, place, starter(registry.NAME)),
    )


@pytest.fixture(scope="session")
def template_database(stack: Services) -> Iterator[str]:
    """The name of a database with the ledger's migrations, from which each test's database is copied."""
    from ledger import migrations

    name = f"template_{uuid.uuid4().hex[:12]}"
    _make(stack, name)
    try:
        migrations.migrate(_address(stack.postgres_url, name))
        yield name
    finally:
        _drop(stack, name)


@pytest.fixture
def database(stack: Services, template_database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of a fresh database with an empty ledger; `HEADRACE_POSTGRES_URL` points to it during the test."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    _make(stack, name, template_database)
    url = _address(stack.postgres_url, name)
    monkeypatch.setenv("HEADRACE_POSTGRES_URL", url)
    settings.settings.cache_clear()
    try:
        yield url
    finally:
        settings.settings.cache_clear()
        _drop(stack, name)


@pytest.fixture
def topic_name() -> str:
    """A prefix for topics (and group or transactional ids) that no other test uses."""
    return f"t{uuid.uuid4().hex[:10]}"


@pytest.fixture(scope="session")
def kafka_admin(stack: Services) -> AdminClient:
    """An admin client of the session's Kafka."""
    return AdminClient({"bootstrap.servers": stack.kafka_bootstrap, "log_level": 0})


@pytest.fixture(scope="session")
def rounds() -> int:
    """How often a randomized test repeats: `HEADRACE_ROUNDS`, by default 2, or 20 in `make soak`."""
    return int(os.environ.get("HEADRACE_ROUNDS") or (20 if os.environ.get("HEADRACE_SOAK") else 2))


@pytest.fixture(scope="session")
def seed() -> int:
    """Seed of randomized tests: `HEADRACE_SEED`, by default the same every time."""
    return int(os.environ.get("HEADRACE_SEED") or 20260101)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Full campaigns run in `make soak` only."""
    if os.environ.get("HEADRACE_SOAK"):
        return
    for item in items:
        if item.get_closest_marker("soak"):
            item.add_marker(pytest.mark.skip(reason="a full campaign: make soak"))


def pytest_report_header() -> str:
    """The numbers that make a failure repeatable."""
    return (
        f"headrace: rounds {os.environ.get('HEADRACE_ROUNDS') or 'default'}, "
        f"seed {os.environ.get('HEADRACE_SEED') or 'default'}, services {'existing' if _existing() else 'own'}"
    )


def _existing() -> bool:
    return os.environ.get("HEADRACE_TEST_USE") == "existing"


def _address(url: str, database: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))


def _make(stack: Services, name: str, template: str = "template0") -> None:
    owner = urlsplit(stack.postgres_url).username or "headrace"
    with psycopg.connect(stack.admin_url, autocommit=True) as connection:
        # Whoever still looks at the template (a pool) would make the copy fail. Autovacuum, which only a superuser may
        # end, is asked to go by the copy itself.
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = %s AND pid <> pg_backend_pid() AND backend_type = 'client backend'",
            [template],
        )
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {} STRATEGY file_copy").format(
                *(sql.Identifier(part) for part in (name, template, owner))
            )
        )


def _drop(stack: Services, name: str) -> None:
    with psycopg.connect(stack.admin_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
