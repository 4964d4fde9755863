"""The cheap checks on demand: one snapshot of the ledger, judged. Imported by runs only: it needs drivers."""

from __future__ import annotations

import psycopg
from dagster import Failure

from headrace.errors import HeadraceError
from headrace.settings import load
from ledger import connection
from ledger.observed import observe
from orchestration import judge
from orchestration.verdict import Verdict
from topology.program import PipelineProgram


def judged(program: PipelineProgram) -> list[Verdict]:
    """Every verdict on a pipeline as of now; `Failure` with one line when the ledger cannot be read."""
    try:
        with connection.connect(load().need_postgres(), application="headrace checks") as db:
            now = connection.now(db)
            seen = observe(db, now, [table.name for table in program.tables], volumes=True)
    except HeadraceError as error:
        raise Failure(str(error), allow_retries=False) from error
    except psycopg.errors.UndefinedTable as error:
        raise Failure("the ledger has no tables yet; run `headrace provision`", allow_retries=False) from error
    found = judge.pipeline(program, seen, now)
    for table in program.tables:
        found += judge.table(table, seen, now)
    return found
