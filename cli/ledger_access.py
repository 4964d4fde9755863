"""The ledger for commands that read it: one clear line when it is not there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.errors import UsageError
from headrace.settings import Settings

if TYPE_CHECKING:
    import sqlalchemy


def reading(settings: Settings) -> sqlalchemy.Engine:
    """An engine for `ledger.reports`; `ServiceUnavailable` or `UsageError` when there is no ledger to read."""
    from ledger import connection, reports

    url = settings.need_postgres()
    with connection.connect(url) as database:
        row = database.execute("select to_regclass('ledger.positions') is not null").fetchone()
    if not row or not row[0]:
        raise UsageError("the ledger has no tables yet; run `headrace provision`, or `headrace demo` for the whole way")
    return reports.engine(url)
