"""Everything the demo needs running, started side by side; and stopping exactly what it started."""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import stack
from cli import dagster_services, own_services
from cli.demo.stages import Stages
from headrace import settings as configuration
from headrace.deadline import Deadline
from headrace.errors import ServiceFailed
from orchestration.client import Location, Webserver
from stack import Endpoints, Event, Home, postgres, processes


class Services:
    """The services of one demo."""

    def __init__(self, home: Home, stages: Stages) -> None:
        self.home = home
        self._stages = stages
        self._before = {service.name for service in stack.state(home) if service.running}
        self._started: list[str] = []
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="services")
        self._code: Future[None] | None = None
        self._webserver: Future[None] | None = None
        self._lock = threading.Lock()

    def up(self) -> Endpoints:
        """Kafka, registry and Postgres, with Dagster beside them: it takes longest, so it does not wait for them."""
        endpoints = stack.up(progress=self._event, home=self.home)
        if endpoints.dagster_postgres_url is None:
            raise ServiceFailed(
                "no database for Dagster: set HEADRACE_DAGSTER_POSTGRES_URL too, or unset HEADRACE_POSTGRES_URL"
            )
        self._begin_dagster(endpoints.dagster_postgres_url, storage=True)
        return endpoints

    def supervisor(self) -> None:
        """The supervisor, which starts the workers."""
        self._add(own_services.SUPERVISOR, own_services.start_supervisor(self.home))

    def dagster(self) -> tuple[Webserver, Location]:
        """The webserver, once it has loaded the definitions."""
        existing = configuration.load().dagster_url
        if existing:
            webserver = Webserver(existing)
            location = webserver.location()
            if location is None:
                raise ServiceFailed(f"Dagster at {existing} has no definitions loaded; look at {existing}/locations")
            return webserver, location
        for start in (self._code, self._webserver):
            if start:
                start.result()
        return dagster_services.wait(self.home, Deadline.after(dagster_services.START_SECONDS))

    def check_supervisor(self) -> None:
        """Raise `ServiceFailed` when the supervisor is gone."""
        name = own_services.SUPERVISOR
        if not processes.alive(name, home=self.home):
            raise ServiceFailed(
                f"the supervisor ended; its last log lines:\n{processes.tail(name, home=self.home)}\n"
                f"the whole log: {self.home.log_file(name)}; nothing is lost, run `headrace demo` again"
            )

    def stop(self) -> None:
        """Stop what this demo started, in order; what ran before goes on."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        if own_services.SUPERVISOR in self._started:
            own_services.stop_supervisor(self.home)
        dagster_services.stop(self.home, self._started)
        if not self._before & set(stack.SERVICES):
            stack.down(self.home)

    def _add(self, name: str, started: bool) -> None:
        if started and name not in self._before:
            self._started.append(name)

    def _event(self, event: Event) -> None:
        self._stages.service(event)
        if (event.part, event.state) == (postgres.NAME, "ready"):
            given = Endpoints.given().dagster_postgres_url
            url = given or postgres.url(self.home, "dagster", scheme="postgresql+psycopg2")
            # From the second start on Dagster's tables are there, and Postgres is all that it needs.
            self._begin_dagster(url, storage=dagster_services.storage_is_ready(self.home))

    def _begin_dagster(self, url: str, *, storage: bool) -> None:
        if os.environ.get("HEADRACE_DAGSTER_URL"):
            return
        with self._lock:
            if self._code is None:
                self._code = self._threads.submit(self._start_code_server, url)
            if self._webserver is None and storage:
                self._webserver = self._threads.submit(self._start_webserver, url)

    def _start_code_server(self, url: str) -> None:
        self._add(dagster_services.CODE, dagster_services.start_code_server(self.home, url))

    def _start_webserver(self, url: str) -> None:
        for name in dagster_services.start_webserver(self.home, url):
            self._add(name, True)
