"""Connections to the ledger's Postgres."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import psycopg

from headrace.errors import ServiceUnavailable, SettingsError

Connection = psycopg.Connection[tuple[Any, ...]]

# A stopped worker's transaction must not hold its locks for long (engine rule B1): Postgres ends the session after 5 s
# without a statement inside a transaction, and notices a vanished machine by keepalives after about 10 s.
WORKER_SESSION = (
    "-c idle_in_transaction_session_timeout=5s -c transaction_timeout=60s -c timezone=UTC -c client_encoding=UTF8 "
    "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3"
)


def libpq_url(url: str) -> str:
    """`url` without SQLAlchemy's driver part."""
    scheme, _, rest = url.partition("://")
    return f"{scheme.split('+')[0]}://{rest}"


def connect(
    url: str, *, autocommit: bool = True, options: str = "-c timezone=UTC", application: str = "headrace"
) -> Connection:
    """A connection; `Transient` when the server does not answer, a `SettingsError` when the URL cannot be used."""
    try:
        return psycopg.connect(
            libpq_url(url), autocommit=autocommit, options=options, application_name=application, connect_timeout=5
        )
    except psycopg.ProgrammingError as error:  # libpq's text repeats the URL, with the password in it
        raise SettingsError(
            "HEADRACE_POSTGRES_URL cannot be used; write it as postgresql://user:password@host:port/database"
        ) from error
    except psycopg.OperationalError as error:
        raise ServiceUnavailable(f"Postgres does not answer: {str(error).strip()}; run `headrace doctor`") from error


def now(db: Connection) -> datetime:
    """The database's time: the one clock that workers, supervisor and Dagster share."""
    row = db.execute("select clock_timestamp()").fetchone()
    assert row is not None  # a select without FROM has one row
    moment: datetime = row[0]
    return moment
