"""Several attempts: a service that restarts, or loses its connections, does not fail an ingest."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import psycopg

from headrace.clock import SYSTEM_CLOCK, Clock
from headrace.errors import ServiceUnavailable
from ledger.files import Claimed

_log = logging.getLogger("ingestion")
_PAUSES = (1.0, 5.0)  # seconds between attempts; a restart of Kafka takes about as long
T = TypeVar("T")


def persistently(attempt: Callable[[], T], name: str, clock: Clock = SYSTEM_CLOCK) -> T:
    """What `attempt` returns, which may be called three times and goes on where the last call stopped.

    name: what it is about, for messages. Raises `ServiceUnavailable` when the last attempt meets a service that does
    not answer, and at once what another attempt cannot mend.
    """
    for pause in (*_PAUSES, None):
        try:
            return attempt()
        except psycopg.OperationalError as error:
            lost = ServiceUnavailable(
                f"{name}: Postgres does not answer ({str(error).strip().splitlines()[0]}); nothing is lost: run "
                "`headrace doctor`, then the ingest again"
            )
            lost.__cause__ = error
        except Claimed:
            raise
        except ServiceUnavailable as error:
            lost = error
        if pause is None:
            raise lost
        _log.warning("%s; trying again in %.0f s", lost, pause)
        clock.wait(pause)
    raise AssertionError("the last attempt returns or raises")
