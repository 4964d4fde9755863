"""Headrace's own part beside the services: ledger, topics and schemas made ready; the supervisor as a process."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.settings import ROOT, Settings
from stack import processes
from stack.home import Home

if TYPE_CHECKING:
    from assets.catalog import Catalog
    from ingestion.provision import Report

SUPERVISOR = "supervisor"


def provision(settings: Settings, catalog: Catalog) -> Report:
    """Bring the ledger to its newest migration, register the schemas and create the topics."""
    from ingestion.provision import provision as run

    migrate_ledger(settings)
    return run(settings, catalog.provisioned)


def migrate_ledger(settings: Settings) -> None:
    """Bring the ledger to its newest migration."""
    from ledger.migrations import migrate

    migrate(settings.need_postgres())


def start_supervisor(home: Home) -> bool:
    """Start the supervisor; True if it was not up. It starts the workers."""
    if processes.alive(SUPERVISOR, home=home):
        return False
    path = os.pathsep.join(part for part in (str(ROOT), os.environ.get("PYTHONPATH", "")) if part)
    command = [sys.executable, "-m", "cli.main", "supervisor", "run"]
    processes.start(SUPERVISOR, command, {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}, home=home, cwd=Path.cwd())
    return True


def stop_supervisor(home: Home) -> bool:
    """Stop the supervisor, which drains its workers first."""
    return processes.stop(SUPERVISOR, home=home, timeout=30)
