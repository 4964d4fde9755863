"""The ledger for commands that read or write it: one clear line when it is not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from headrace.errors import UsageError
from headrace.settings import Settings

if TYPE_CHECKING:
    import sqlalchemy

    from ledger import Connection


def reading(settings: Settings) -> sqlalchemy.Engine:
    """An engine for `ledger.reports`; `ServiceUnavailable` or `UsageError` when there is no ledger to read."""
    from ledger import reports

    with writing(settings):
        return reports.engine(settings.need_postgres())


@contextmanager
def writing(settings: Settings) -> Iterator[Connection]:
    """A connection to the ledger; raises as `reading` does."""
    from ledger import connection, migrations

    with closing(connection.connect(settings.need_postgres(), application="headrace command")) as database:
        row = database.execute("select to_regclass('ledger.positions') is not null").fetchone()
        if not row or not row[0]:
            raise UsageError(
                "the ledger has no tables yet; run `headrace provision`, or `headrace demo` for the whole way"
            )
        if migrations.missing(database):
            raise UsageError("the ledger is that of an older Headrace; nothing was changed; run `headrace provision`")
        yield database
