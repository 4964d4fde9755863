"""What a pipeline's own sensor does in a tick: says how its workers are, and judges the fleet's last tick."""

from __future__ import annotations

import psycopg

from headrace.errors import HeadraceError
from headrace.settings import load
from ledger import connection
from ledger.observed import observe
from orchestration import judge
from orchestration.flight import Ticked
from topology.program import PipelineProgram


def watch(program: PipelineProgram, cursor: str | None, instance: str) -> Ticked:
    """One tick. The check `fleet` is reported when its outcome changes; the fleet itself repeats a good one.

    cursor: how it was at the last tick, as a person reads it on the sensor's page. instance: whose sensor this is.
    """
    try:
        with connection.connect(load().need_postgres(), application="headrace switch") as db:
            now = connection.now(db)
            seen = observe(db, now, [table.name for table in program.tables])
    except (psycopg.OperationalError, psycopg.errors.UndefinedTable, HeadraceError) as error:
        return Ticked((), cursor, " ".join(str(error).split()))
    fleet, workers = judge.fleet(program, seen.fleet, now, instance), judge.workers(program, seen, now)
    outcome = "fleet ticks" if fleet.passed else "fleet is silent"
    events = [] if cursor == outcome or program.apart else [fleet.evaluation()]  # shown at the source, by its readers
    says = workers.says if fleet.passed else f"{workers.says}; fleet: {fleet.says}"
    return Ticked(events, outcome, says)
