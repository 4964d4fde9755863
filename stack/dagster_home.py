"""Dagster's home: `dagster.yaml` below our home, its tables in Postgres, and a `.env` for `dg dev` typed by hand."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from headrace.errors import ServiceFailed
from headrace.logging import redact
from headrace.settings import ROOT
from stack.home import Home, write_private

VARIABLE = "HEADRACE_DAGSTER_POSTGRES_URL"
_YAML = f"""\
# Written by `headrace up`; changes are lost. Events and runs live in Postgres, in a database of their own.
storage:
  postgres:
    postgres_url:
      env: {VARIABLE}
concurrency:
  runs:
    max_concurrent_runs: 4
  pools:
    default_limit: 1  # of a topic, and of the recounts, one run at a time
    granularity: op
run_coordinator:
  module: dagster._core.run_coordinator.queued_run_coordinator
  class: QueuedRunCoordinator
  config:
    dequeue_interval_seconds: 1  # the default, 5, is what a person waits after a click
run_launcher:
  module: dagster
  class: DefaultRunLauncher
run_monitoring:
  # This launcher cannot tell whether a run's process lives: the code server notices within a second when one of its own
  # ends, and what a code server leaves behind that ends itself is found by the limits below.
  enabled: true
  start_timeout_seconds: 300  # importing the definitions on two busy cores has taken 30
  cancel_timeout_seconds: 120
  max_runtime_seconds: 21600  # after a power cut a run would be "started" for ever, and hold up the file sensor
  poll_interval_seconds: 30
  free_slots_after_run_end_seconds: 30  # a run that crashed in a pool must not keep its place
run_retries:
  enabled: true
  max_retries: 2
  retry_on_asset_or_op_failure: false  # only a run whose process died; a failed step says why, and stays failed
sensors:
  use_threads: true  # one slow sensor (a folder on a slow disk) must not delay the fleet sensor
  num_workers: 8
schedules:
  use_threads: true
  num_workers: 2
retention:
  schedule:
    purge_after_days: 30
  sensor:
    # 17,280 ticks a day of a sensor that looks every 5 s, nearly all of them skipped
    purge_after_days: {{skipped: 2, success: 14, failure: 30, started: 2}}
  auto_materialize:
    purge_after_days: {{skipped: 2, success: 14, failure: 30, started: 2}}
telemetry:
  enabled: false
nux:
  enabled: false
"""
# The id is made by whoever asks first, without a lock: two processes that ask at once would make two.
_PREPARE = """\
from dagster import DagsterInstance
with DagsterInstance.get() as instance:
    instance.upgrade()
    instance.run_storage.get_run_storage_id()
"""
_MARK = "# headrace: written by `headrace up`"


def folder(home: Home) -> Path:
    """DAGSTER_HOME."""
    return home.folder("dagster")


def environment(home: Home, url: str) -> dict[str, str]:
    """Variables that every Dagster process needs."""
    return {"DAGSTER_HOME": str(folder(home)), VARIABLE: url}


def write(home: Home, url: str, checkout: Path = ROOT) -> None:
    """Write `dagster.yaml` and, for the home inside the checkout, the checkout's `.env`."""
    yaml = folder(home) / "dagster.yaml"
    if not yaml.exists() or yaml.read_text() != _YAML:
        yaml.write_text(_YAML)
    if home.root.parent == checkout:  # another home (tests, a second stack) must not take over `dg dev` in the checkout
        _write_env(checkout / ".env", environment(home, url))


def prepare_storage(home: Home, url: str) -> None:
    """Make Dagster's tables and its id once, alone: webserver and daemon starting together would both try."""
    mark = folder(home) / ".tables"
    key = hashlib.sha256(url.encode()).hexdigest()
    if mark.exists() and mark.read_text() == key:
        return
    done = subprocess.run(
        [sys.executable, "-c", _PREPARE],
        env={**_clean_environment(), **environment(home, url)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ServiceFailed(
            f"Dagster's tables could not be made:\n{redact(done.stderr[-2000:])}\nrun `headrace up` again"
        )
    mark.write_text(key)


def _clean_environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key != "DAGSTER_HOME"}


def _write_env(file: Path, values: dict[str, str]) -> None:
    """Replace our lines, keep the user's."""
    old = file.read_text().splitlines() if file.exists() else []
    kept = [line for line in old if line != _MARK and line.split("=", 1)[0].strip() not in values]
    text = "\n".join([*kept, _MARK, *(f"{key}={value}" for key, value in values.items())])
    if text.splitlines() != old:
        write_private(file, text)
