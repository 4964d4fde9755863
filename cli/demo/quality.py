"""Every check of the graph, run by Dagster as a click in the UI does, and the partitions that the fleet reports."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from cli.demo.expected import GRAPH, WINDOWED
from cli.demo.report import Check
from cli.demo.stages import Stage
from headrace.errors import HeadraceError
from headrace.settings import Settings
from ledger import connection, fleet
from orchestration.client import CheckOutcome, Location, Webserver

_POLL = 0.3
_PATIENCE = 180.0  # seconds; the fleet ticks every 5 s and reports what came to rest after 15: more on a busy machine
_RECENT = 60.0  # seconds; an older tick is one of a demo before this one
_PARTITIONS = """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
  assetMaterializations { partition } } } }"""


def judge(webserver: Webserver, location: Location, settings: Settings, stage: Stage) -> list[Check]:
    """Launch a run of all checks and wait for it; the outcome of each, and of the partitions."""
    stage.say("waiting for the first tick of the fleet")
    _wait(lambda: _ticked(settings))
    known = [check for check in webserver.checks() if _name(check) in GRAPH]
    run = webserver.check(known, location)
    stage.say(f"run {run[:8]} evaluates {len(known)} checks")
    error = ""
    try:
        for lines in webserver.follow(run):
            notes = [line.message for line in lines if line.kind is None and line.message]
            if notes:
                stage.say(notes[-1])
    except HeadraceError as failure:  # a blocking check that fails fails its run: the check says why
        error = str(failure)
    outcomes = {_name(check): check for check in webserver.checks()}
    return [*_outcomes(outcomes, error), *(_partitions(webserver, table, settings, stage) for table in WINDOWED)]


def _outcomes(outcomes: Mapping[str, CheckOutcome], error: str) -> Iterator[Check]:
    for name in GRAPH:
        outcome = outcomes.get(name)
        if outcome is None:
            yield Check(name, False, "there is no such check")
        elif outcome.status is None:
            yield Check(name, False, f"it did not run; {error}")
        else:
            yield Check(name, outcome.passed, outcome.says)


def _partitions(webserver: Webserver, table: str, settings: Settings, stage: Stage) -> Check:
    """Days in the table = partitions that Dagster shows as materialized."""
    stage.say(f"waiting for the report of {table}")
    found: tuple[set[str], set[str]] = (set(), set())

    def equal() -> bool:
        nonlocal found
        found = _days(table, settings), _reported(webserver, table)
        return found[0] == found[1]

    _wait(equal)
    days, reported = found
    note = f"{len(days)} days" if days == reported else f"days {sorted(days)}, materialized {sorted(reported)}"
    return Check(f"partitions:{table}", days == reported and bool(days), note)


def _days(table: str, settings: Settings) -> set[str]:
    with connection.connect(settings.need_postgres()) as db:
        rows = db.execute(f'select distinct ("windowStart" at time zone \'UTC\')::date::text from public."{table}"')
        return {row[0] for row in rows}


def _reported(webserver: Webserver, table: str) -> set[str]:
    node = webserver.query(_PARTITIONS, key={"path": ["postgres", table]})["assetNodeOrError"]
    events: Sequence[Mapping[str, str]] = node.get("assetMaterializations") or []
    return {event["partition"] for event in events if event["partition"]}


def _ticked(settings: Settings) -> bool:
    with connection.connect(settings.need_postgres()) as db:
        owner = fleet.owner(db)
        return owner is not None and (connection.now(db) - owner.ticked_at).total_seconds() < _RECENT


def _wait(done: Callable[[], bool]) -> None:
    until = time.monotonic() + _PATIENCE
    while not done() and time.monotonic() < until:
        time.sleep(_POLL)


def _name(check: CheckOutcome) -> str:
    return f"{'/'.join(check.asset)}:{check.name}"
