"""Up, down and state of the local services."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

from headrace.errors import ServiceFailed, UsageError
from stack import artifacts, dagster_home, kafka, ports, postgres, processes, registry
from stack.home import Endpoints, Home
from stack.progress import Event, Progress, silent

SERVICES = (postgres.NAME, kafka.NAME, registry.NAME)
_VARIABLE = {
    kafka.NAME: "HEADRACE_KAFKA_BOOTSTRAP",
    registry.NAME: "HEADRACE_REGISTRY_URL",
    postgres.NAME: "HEADRACE_POSTGRES_URL",
}


@dataclass(frozen=True)
class ServiceState:
    """One service or process: `source` is local, existing (given by the environment) or ours (a Headrace process)."""

    name: str
    source: str
    running: bool
    address: str = ""
    pid: int | None = None
    uptime: float = 0.0
    rss: int = 0
    log: Path | None = None


def up(only: Collection[str] | None = None, progress: Progress = silent, home: Home | None = None) -> Endpoints:
    """Start what is not given by the environment and not up yet, write `endpoints.json`, return all addresses.

    Idempotent. `only` limits it to some of postgres, kafka, registry (a local registry brings Postgres with it).
    Raises `ServiceFailed` or `ServiceUnavailable`; what is up by then stays up, `down` stops it.
    """
    home = home or Home()
    given = Endpoints.given()
    wanted = services_wanted(only, given)
    for role in (postgres.SUPERUSER, *postgres.DATABASES):  # all at once: the threads below only read them
        home.secret(f"{postgres.NAME}:{role}")
    stop = threading.Event()

    def tell(event: Event) -> None:
        if stop.is_set() and event.state == "downloading":
            raise ServiceFailed(f"{event.part} was interrupted; the next `headrace up` starts it again")
        progress(event)

    with ThreadPoolExecutor(4, thread_name_prefix="up") as pool:
        started: list[Future[None]] = []
        if wanted & {postgres.NAME, registry.NAME}:
            started.append(pool.submit(_postgres_side, home, wanted, given, tell, stop, pool))
        if kafka.NAME in wanted:
            started.append(pool.submit(_timed, kafka.NAME, tell, lambda: kafka.start(home, tell, stop.is_set)))
        try:
            for future in as_completed(started):
                future.result()
        finally:
            stop.set()  # after a failure or Ctrl-C nobody goes on waiting
    local = _addresses(home)
    home.write_endpoints(local)
    return given.over(local)


def down(home: Home | None = None, progress: Progress = silent) -> list[str]:
    """Stop everything that was started from this home, ours first, then the services; returns the names."""
    home = home or Home()
    names = processes.names(home)
    own = [name for name in names if name not in SERVICES]
    stopped: list[str] = []

    def stop(name: str) -> None:
        if processes.stop(name, home=home, timeout=60 if name in SERVICES else 20):
            stopped.append(name)
            progress(Event(name, "stopped"))

    with ThreadPoolExecutor(4) as pool:
        for group in (own, [kafka.NAME, registry.NAME], [postgres.NAME]):
            list(pool.map(stop, [name for name in group if name in names]))
    home.endpoints_file.unlink(missing_ok=True)
    return stopped


def state(home: Home | None = None) -> list[ServiceState]:
    """How each service and each of our processes is, the services first."""
    home = home or Home()
    given = Endpoints.given()
    addresses = {
        postgres.NAME: (given.postgres_url, f"{ports.HOST}:{ports.remembered(home, postgres.NAME)}"),
        kafka.NAME: (given.kafka_bootstrap, kafka.bootstrap(home)),
        registry.NAME: (given.registry_url, registry.url(home)),
    }
    found = []
    for name in [*SERVICES, *(n for n in processes.names(home) if n not in SERVICES)]:
        existing, local = addresses.get(name, (None, ""))
        running = processes.find(name, home=home)
        entry = ServiceState(name, "local" if name in SERVICES else "ours", False, log=home.log_file(name))
        if running:
            entry = replace(entry, running=True, address=local, pid=running.pid, uptime=running.uptime, rss=running.rss)
        elif existing:
            entry = ServiceState(name, "existing", True, _VARIABLE[name])
        found.append(entry)
    return found


def services_wanted(only: Collection[str] | None, given: Endpoints) -> set[str]:
    """Services that have to run here: those asked for and not given by the environment."""
    unknown = set(only or ()) - set(SERVICES)
    if unknown:
        raise UsageError(f"unknown service {', '.join(sorted(unknown))}; there are {', '.join(SERVICES)}")
    wanted = set(only or SERVICES)
    if given.kafka_bootstrap:
        wanted.discard(kafka.NAME)
    if given.registry_url:
        wanted.discard(registry.NAME)
    if given.postgres_url and given.dagster_postgres_url:
        wanted.discard(postgres.NAME)
    return wanted


def _postgres_side(
    home: Home,
    wanted: set[str],
    given: Endpoints,
    progress: Progress,
    stop: threading.Event,
    pool: ThreadPoolExecutor,
) -> None:
    """Postgres, then what stores in it: the registry and Dagster's tables, side by side."""
    bundle = pool.submit(artifacts.fetch, "apicurio", progress) if registry.NAME in wanted else None
    before = ports.remembered(home, postgres.NAME)
    _timed(postgres.NAME, progress, lambda: postgres.start(home, stop.is_set))
    if before != ports.remembered(home, postgres.NAME):
        processes.stop(registry.NAME, home=home)  # one that is still up would look for Postgres at its former port
    following: list[Future[None]] = []
    if bundle is not None:
        bundle.result()
        following.append(
            pool.submit(_timed, registry.NAME, progress, lambda: registry.start(home, progress, stop.is_set))
        )
    if postgres.NAME in wanted:
        url = given.dagster_postgres_url or postgres.url(home, "dagster", scheme="postgresql+psycopg2")
        dagster_home.write(home, url)
        dagster_home.prepare_storage(home, url)
    for future in following:
        future.result()


def _timed(name: str, progress: Progress, start: Callable[[], None]) -> None:
    began = time.monotonic()
    progress(Event(name, "starting"))
    try:
        start()
    except BaseException:
        progress(Event(name, "failed"))
        raise
    progress(Event(name, "ready", f"{time.monotonic() - began:.1f} s"))


def _addresses(home: Home) -> Endpoints:
    """Addresses of the local services that are up."""
    has = {name: processes.alive(name, home=home) for name in SERVICES}
    return Endpoints(
        kafka_bootstrap=kafka.bootstrap(home) if has[kafka.NAME] else None,
        registry_url=registry.url(home) if has[registry.NAME] else None,
        postgres_url=postgres.url(home, "headrace") if has[postgres.NAME] else None,
        dagster_postgres_url=postgres.url(home, "dagster", scheme="postgresql+psycopg2")
        if has[postgres.NAME]
        else None,
    )
