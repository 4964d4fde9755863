"""Ingest in a process that may die: forked from a clean server that has the imports done and no client open."""

from __future__ import annotations

import multiprocessing
from multiprocessing.process import BaseProcess

from headrace.errors import HeadraceError
from tests.ingestion.conftest import Site

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["ingestion.ingest", "pandas", "tests.ingestion.conftest", "tests.ingestion.child"])

REFUSED = 3


def start(site: Site, failpoints: str = "") -> BaseProcess:
    """Begin to ingest the site's CSV files. Exit code 3: an error of ours."""
    process = _context.Process(target=_run, args=(site, failpoints))
    process.start()
    return process


def _run(site: Site, failpoints: str) -> None:
    from ingestion.ingest import ingest

    try:
        ingest(site.csv, site.settings.model_copy(update={"failpoints": failpoints}))
    except HeadraceError as error:
        print(error)
        raise SystemExit(REFUSED) from error
