"""A file lands while Dagster runs: its daemon ticks the sensor, and the run that it asks for brings the file in."""

from __future__ import annotations

from typing import Any

import psycopg

from headrace.deadline import Deadline
from orchestration.landing import FILES_TAG
from tests.conftest import Services
from tests.ingestion.conftest import HEADER, order
from tests.orchestration.conftest import Dagster

RUNS = "query { runsOrError(limit: 50) { ... on Runs { results { status tags { key value } } } } }"


def runs_for(dagster: Dagster, name: str) -> list[str]:
    """Status of each run that the sensor asked for because of a file."""
    found: list[dict[str, Any]] = dagster.webserver.query(RUNS)["runsOrError"]["results"]
    wanted = {"key": FILES_TAG, "value": name}
    return [run["status"] for run in found if wanted in run["tags"]]


def test_a_file_that_lands_is_in_the_topic_soon(dagster: Dagster, stack: Services) -> None:
    name = "orders/landed.csv"
    path = dagster.landing / name
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(".landed.csv")
    part.write_text("\n".join((HEADER, order(987_001, customerId="landed"), "")))
    part.replace(path)
    try:
        deadline = Deadline.after(150)
        done = False
        while not done:
            assert not deadline.passed(), f"not ingested; runs: {runs_for(dagster, name)}"
            deadline.clock.wait(0.5)
            with psycopg.connect(stack.postgres_url) as db:
                if db.execute("select to_regclass('ledger.files') is not null").fetchone() == (True,):
                    state = db.execute("select state from ledger.files where name = %s", (name,)).fetchone()
                    done = state == ("completed",)
        assert len(runs_for(dagster, name)) == 1
    finally:
        path.unlink()
