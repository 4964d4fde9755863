"""What a run of a system's expectations does. Imported by the run only: it brings Great Expectations with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg
import sqlalchemy as sa
from dagster import AssetCheckResult, AssetCheckSeverity, DagsterLogManager, Failure, MetadataValue

from headrace.errors import HeadraceError
from headrace.settings import home_dir, load
from ledger import Connection, connect, reports, table_versions
from orchestration import keys, quality_rows
from topology.check_expect import Expected
from topology.program import TableProgram


@dataclass(frozen=True)
class Wanted:
    """The expectations of a table that a run evaluates; `whole`: all that the table has."""

    program: TableProgram
    expected: Sequence[Expected]
    whole: bool


def run(log: DagsterLogManager, system: str, wanted: Sequence[Wanted], run_id: str) -> Iterator[AssetCheckResult]:
    """Evaluate and tell; raises `Failure` with one line when nothing could be looked at."""
    secrets: list[str] = []
    try:
        url = load().need_postgres()
        secrets += [part for part in (url, urlsplit(url).password) if part]
        with connect(url, options=quality_rows.SESSION, application="headrace-quality") as db:
            yield from _run(log, db, url, home_dir() / "quality" / system, wanted, run_id)
    except HeadraceError as error:
        raise Failure(_clean(str(error), secrets), allow_retries=False) from None
    except (psycopg.Error, sa.exc.SQLAlchemyError) as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise Failure(
            _clean(f"Postgres stopped answering in the middle: {line}; run `headrace doctor`", secrets)
        ) from None


def _run(
    log: DagsterLogManager, db: Connection, url: str, folder: Path, wanted: Sequence[Wanted], run_id: str
) -> Iterator[AssetCheckResult]:
    ready = []
    for one in wanted:
        problem = _problem(db, one.program)
        if problem is None:
            ready.append(one)
            continue
        log.warning(problem)
        for expected in one.expected:
            yield _result(expected, False, f"not looked at: {problem}", {})
    if not ready:
        return
    from orchestration.quality_suite import Suite, evaluate, index

    suites = [
        Suite(one.program.name, part, stored, one.whole)
        for one in ready
        for stored in (False, True)
        if (part := [expected for expected in one.expected if expected.stored == stored])
    ]
    log.info(f"Great Expectations: {sum(len(s.expected) for s in suites)} expectations of {len(ready)} tables")
    outcomes = evaluate(url, folder, suites, run_id)
    log.info(f"Data Docs: {index(folder)}")
    counts: dict[str, int] = {}
    for one in ready:
        for expected in one.expected:
            if expected.relation not in counts:
                counts[expected.relation] = quality_rows.count(db, expected.relation)
            rows = counts[expected.relation]
            outcome = outcomes[one.program.name, expected.name]
            docs: dict[str, MetadataValue[Any]] = {"data docs": MetadataValue.path(str(outcome.page))}
            if outcome.error is not None:
                yield _result(expected, False, f"could not be evaluated: {outcome.error}", docs)
            elif outcome.passed:
                yield _result(expected, True, f"{rows:,} rows", {"rows": rows, "failing rows": 0, **docs})
            else:
                count, shown = quality_rows.failing(db, reports.engine(url), one.program, expected)
                # an SQL expectation stops counting early, and a worker may have changed rows meanwhile
                yield _failed(expected, rows, max(count, outcome.failing), shown, docs)


def _failed(
    expected: Expected,
    rows: int,
    failing: int,
    shown: Sequence[quality_rows.FailingRow],
    docs: Mapping[str, MetadataValue[Any]],
) -> AssetCheckResult:
    """The result of an expectation that rows break: how many, and the first of them."""
    found: dict[str, int | MetadataValue[Any]] = {"rows": rows, "failing rows": failing, **docs}
    says = f"{failing:,} of {rows:,} rows break it: {expected.says}"
    if shown:
        found["examples"] = MetadataValue.md(quality_rows.table(shown))
        found["failing"] = MetadataValue.json(quality_rows.listed(shown))
    else:
        says += "; they have been changed since"
    return _result(expected, False, says, found)


def _problem(db: Connection, program: TableProgram) -> str | None:
    """Why there is nothing to look at, in one line; None for a table as it is declared."""
    name = program.name
    pipeline = program.table.source.pipeline_name
    there = db.execute(
        "select to_regclass('ledger.table_versions') is not null, to_regclass(%s) is not null",
        (f'public."{name}"',),
    ).fetchone()
    assert there is not None  # a select without FROM has one row
    live = table_versions.live(db, name) if there[0] else None
    if live is None:
        return (
            f"table {name} is not there yet: no worker of pipeline {pipeline} has run; "
            f"run `headrace worker run {pipeline}`"
        )
    if live != program.version_id:
        return (
            f"table {name} lives as {live}, the declaration is now {program.version_id}; undo the change, or run "
            f"`headrace pipeline rebuild {pipeline}` to build it anew"
        )
    if not there[1]:
        return f"the view public.{name} is gone; run `headrace pipeline rebuild {pipeline}` to build it anew"
    return None


def _result(
    expected: Expected, passed: bool, says: str, metadata: Mapping[str, int | MetadataValue[Any]]
) -> AssetCheckResult:
    return AssetCheckResult(
        passed=passed,
        asset_key=keys.table_key(expected.table),
        check_name=expected.name,
        severity=AssetCheckSeverity.ERROR if expected.critical else AssetCheckSeverity.WARN,
        description=says,
        metadata={"expectation": MetadataValue.text(expected.says), **metadata},
    )


def _clean(text: str, secrets: Sequence[str]) -> str:
    """The text without the address and password of the database."""
    for secret in secrets:
        text = text.replace(secret, "***").replace(unquote(secret), "***")
    return text
