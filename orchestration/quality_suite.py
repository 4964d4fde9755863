"""Great Expectations on the live Postgres: suites, one checkpoint, Data Docs. Imported by a run only: 4 to 10 seconds.

Every expectation is evaluated by Postgres; only counts and a few values come back. The context lives in memory, because
its data source knows the database's password; on disk are results and pages, which do not.
"""

from __future__ import annotations

import fcntl
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import great_expectations as gx
import great_expectations.expectations as gxe
import sqlalchemy as sa
from great_expectations.checkpoint import UpdateDataDocsAction
from great_expectations.data_context.types.base import (
    DataContextConfig,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
)
from great_expectations.exceptions import GreatExpectationsError

from headrace.errors import ServiceFailed
from ledger.connection import libpq_url
from orchestration.quality_rows import SESSION
from topology.check_expect import Expected
from topology.duck import quoted
from topology.expect import Between, InSet, NotNull, Unique

KEPT = 20  # runs whose results and pages stay
_MOST = 1000  # rows that an SQL expectation fetches to say that it failed
_VALUES = 20  # failing values on a page
_PLACEHOLDER = re.compile(r"(?<![:\w\\]):(?=\w+(?!:))")  # what SQLAlchemy would take for a parameter
Results = dict[tuple[str, str], "Outcome"]


@dataclass(frozen=True)
class Suite:
    """The expectations of one relation (a view, or rows as stored), evaluated together; `whole`: all there are."""

    table: str
    expected: Sequence[Expected]
    stored: bool
    whole: bool

    @property
    def name(self) -> str:
        """As Data Docs call it; runs of a selection are kept apart, so that a suite's page shows all of it."""
        return f"{self.table}{' as stored' if self.stored else ''}{'' if self.whole else ' (selection)'}"


@dataclass(frozen=True)
class Outcome:
    """What Great Expectations says of one expectation; error: why it could not be evaluated. page: its Data Docs."""

    passed: bool
    failing: int
    error: str | None
    page: Path


def evaluate(url: str, folder: Path, suites: Sequence[Suite], run_name: str) -> Results:
    """Run the suites in one checkpoint and add a run to the Data Docs in `folder`; by table and expectation."""
    with _alone(folder):
        _prune(folder)
        try:
            return _evaluate(url, folder, suites, run_name)
        except (GreatExpectationsError, ConnectionError) as error:
            line = str(error).strip().splitlines()[0]
            raise ServiceFailed(f"Great Expectations could not run: {line}; run `headrace doctor`") from None


def _evaluate(url: str, folder: Path, suites: Sequence[Suite], run_name: str) -> Results:
    context = gx.get_context(mode="ephemeral", project_config=_config(folder))
    source = context.data_sources.add_postgres("postgres", connection_string=_address(url))
    definitions = [_definition(context, source, suite) for suite in suites]
    checkpoint = gx.Checkpoint(
        name="quality",
        validation_definitions=definitions,
        actions=[UpdateDataDocsAction(name="data docs")],
        result_format={"result_format": "SUMMARY", "partial_unexpected_count": _VALUES},
    )
    done = context.checkpoints.add(checkpoint).run(run_id=gx.RunIdentifier(run_name=run_name))
    found: Results = {}
    for result in done.run_results.values():
        suite = next(suite for suite in suites if suite.name == result.suite_name)
        page = _page(folder, suite.name, run_name)
        for one in result.results:
            found[suite.table, _name(one)] = _outcome(one, page)
    return found


def index(folder: Path) -> Path:
    """The first page of the Data Docs."""
    return folder / "docs" / "index.html"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One run at a time writes a system's folder; the lock ends with its process."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise ServiceFailed(
            f"{folder} cannot be written ({error.strerror}); nothing was checked; set HEADRACE_HOME to a folder that "
            "you may write"
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _prune(folder: Path) -> None:
    """Leave the newest runs of each suite, one fewer than `KEPT`: another is about to come."""
    for suite in [*folder.glob("results/*/"), *folder.glob("docs/validations/*/")]:
        runs = sorted(suite.glob("*/"), key=lambda run: run.stat().st_mtime, reverse=True)
        for run in runs[KEPT - 1 :]:
            shutil.rmtree(run)


def _config(folder: Path) -> DataContextConfig:
    """Everything in memory but results and pages. Sends nothing to anyone."""
    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        analytics_enabled=False,
        progress_bars=ProgressBarsConfig(globally=False),
    )
    config.stores[config.validation_results_store_name] = {
        "class_name": "ValidationResultsStore",
        "store_backend": _files(folder / "results"),
    }
    config.data_docs_sites = {
        "headrace": {
            "class_name": "SiteBuilder",
            "show_how_to_buttons": False,
            "show_cta_footer": False,
            "store_backend": _files(folder / "docs"),
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        }
    }
    return config


def _files(folder: Path) -> dict[str, str]:
    return {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder)}


def _address(url: str) -> str:
    address = sa.make_url(libpq_url(url)).set(drivername="postgresql+psycopg")
    address = address.update_query_dict({"options": SESSION, "application_name": "headrace-quality"})
    return address.render_as_string(hide_password=False)


def _definition(context: Any, source: Any, suite: Suite) -> Any:
    """The suite bound to its rows."""
    if suite.stored:
        asset = source.add_query_asset(suite.name, query=suite.expected[0].relation)
    else:
        asset = source.add_table_asset(suite.name, table_name=suite.table)
    made = context.suites.add(gx.ExpectationSuite(suite.name))
    for one in suite.expected:
        made.add_expectation(_expectation(one))
    batch = asset.add_batch_definition_whole_table("all rows")
    return context.validation_definitions.add(gx.ValidationDefinition(name=suite.name, data=batch, suite=made))


def _expectation(one: Expected) -> Any:
    rule = one.rule
    common: dict[str, Any] = {
        "severity": "critical" if one.critical else "warning",
        "meta": {"check": one.name},
        "description": f"{one.name}: {one.says}",
    }
    if isinstance(rule, NotNull):
        return gxe.ExpectColumnValuesToNotBeNull(column=rule.column, **common)
    if isinstance(rule, Between):
        return gxe.ExpectColumnValuesToBeBetween(
            column=rule.column, min_value=rule.minimum, max_value=rule.maximum, **common
        )
    if isinstance(rule, InSet):
        return gxe.ExpectColumnValuesToBeInSet(column=rule.column, value_set=list(rule.values), **common)
    if isinstance(rule, Unique) and len(rule.columns) == 1:
        return gxe.ExpectColumnValuesToBeUnique(column=rule.columns[0], **common)
    if isinstance(rule, Unique):
        return gxe.ExpectCompoundColumnsToBeUnique(
            column_list=list(rule.columns), ignore_row_if="any_value_is_missing", **common
        )
    failing = _PLACEHOLDER.sub(r"\\:", one.failing.replace("{", "{{").replace("}", "}}"))
    names = ", ".join(quoted(name) for name in one.key)
    query = f"SELECT {names} FROM {{batch}} WHERE {failing} LIMIT {_MOST}"
    return gxe.UnexpectedRowsExpectation(unexpected_rows_query=query, **common)


def _name(one: Any) -> str:
    return str(one.expectation_config.meta["check"])


def _outcome(one: Any, page: Path) -> Outcome:
    found = one.result or {}
    failing = found.get("unexpected_count", found.get("observed_value"))
    return Outcome(bool(one.success), int(failing or 0), _error(one.exception_info), page)


def _error(info: Mapping[str, Any] | None) -> str | None:
    """First line of what went wrong, None when nothing did; there is one entry, or one per metric."""
    entries = [info or {}, *(entry for entry in (info or {}).values() if isinstance(entry, dict))]
    for entry in entries:
        if entry.get("raised_exception"):
            return str(entry.get("exception_message") or "no reason given").strip().splitlines()[0]
    return None


def _page(folder: Path, suite: str, run_name: str) -> Path:
    pages = sorted((folder / "docs" / "validations" / suite / run_name).rglob("*.html"))
    return pages[-1] if pages else index(folder)
