"""What `headrace doctor` looks at: the machine, the services, the ledger and the declarations, each with a remedy."""

from __future__ import annotations

from collections.abc import Callable

from cli.ledger_access import reading
from headrace.errors import HeadraceError
from headrace.logging import redact
from headrace.settings import Settings, load
from stack import Finding
from stack import doctor as look_at_machine


def examine() -> list[Finding]:
    """Look at everything; never raises for what it finds."""
    try:
        settings = load()
    except HeadraceError as error:
        return [Finding("settings", False, str(error), "correct the variable")]
    probes: list[tuple[str, Callable[[Settings], str]]] = [
        ("declarations", _declarations),
        ("kafka answers", _kafka),
        ("registry answers", _registry),
        ("postgres answers", _postgres),
        ("ledger", _ledger),
        ("shards", _shards),
        ("workers", _workers),
    ]
    return [*look_at_machine(), *(_look(name, probe, settings) for name, probe in probes)]


class _Problem(Exception):
    """What a probe found to be wrong: detail and remedy."""

    def __init__(self, detail: str, remedy: str) -> None:
        super().__init__(detail)
        self.remedy = remedy


def _look(name: str, probe: Callable[[Settings], str], settings: Settings) -> Finding:
    try:
        return Finding(name, True, redact(probe(settings)))
    except _Problem as problem:
        return Finding(name, False, redact(str(problem)), problem.remedy)
    except HeadraceError as error:
        return Finding(name, False, redact(" ".join(str(error).split())), "headrace up")
    except Exception as error:  # a doctor that falls over helps nobody
        return Finding(name, False, redact(f"{type(error).__name__}: {' '.join(str(error).split())}"), "headrace up")


def _declarations(_settings: Settings) -> str:
    from cli.catalog import load as load_catalog

    try:
        found = load_catalog()
    except HeadraceError as error:
        raise _Problem(str(error), "headrace validate") from error
    return f"{len(found.topics)} topics, {len(found.tables)} tables"


def _kafka(settings: Settings) -> str:
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    client = AdminClient({**settings.kafka(), "log_level": 0, "socket.connection.setup.timeout.ms": 3000})
    try:
        metadata = client.list_topics(timeout=5)
    except KafkaException as error:
        raise _Problem(f"{settings.kafka_bootstrap} does not answer: {error.args[0].str()}", "headrace up") from error
    return f"{len(metadata.brokers)} brokers, {len(metadata.topics)} topics at {settings.kafka_bootstrap}"


def _registry(settings: Settings) -> str:
    from schemas.registry import Registry

    url = settings.need_registry().rstrip("/")
    Registry(url, {"timeout": 5, "max.retries": 0, **settings.registry_config}).compatibility(
        "any"
    )  # it need not exist
    return f"answers at {url}"


def _postgres(settings: Settings) -> str:
    from ledger import connection

    with connection.connect(settings.need_postgres()) as database:
        row = database.execute("show server_version").fetchone()
    return f"PostgreSQL {row[0] if row else '?'}"


def _ledger(settings: Settings) -> str:
    from ledger import reports

    entries = reports.accounting(reading(settings))
    wrong = [entry for entry in entries if not entry.holds]
    if wrong:
        first = wrong[0]
        raise _Problem(
            f"{first.table} {first.topic}[{first.partition}]: the accounting does not hold", "headrace status"
        )
    return f"{len({entry.table for entry in entries})} live tables, the accounting holds"


def _shards(settings: Settings) -> str:
    from ledger import reports

    errors = reports.shard_errors(reading(settings))
    if errors:
        first = errors[0]
        raise _Problem(f"{first.pipeline} shard {first.shard}: {first.error} ({len(errors)} in all)", "see the error")
    return "none stands still"


def _workers(settings: Settings) -> str:
    from ledger import reports

    rows = reports.workers(reading(settings))
    failed = [row for row in rows if row.state in ("failed", "lost")]
    running = [row for row in rows if row.state == "running"]
    if failed and not running:
        raise _Problem(f"{failed[0].worker} {failed[0].state}: {failed[0].last_error}", "headrace supervisor run")
    return f"{len(running)} running"
