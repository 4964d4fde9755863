"""The written `dagster.yaml` as Dagster itself reads it, on a real storage."""

from __future__ import annotations

from pathlib import Path

import pytest
from dagster import DagsterInstance
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.launcher import DefaultRunLauncher
from dagster._core.run_coordinator import QueuedRunCoordinator
from dagster._core.scheduler.instigation import TickStatus
from dagster_postgres import PostgresEventLogStorage

from stack import Home, dagster_home
from tests.conftest import Services


def test_dagster_reads_what_is_written(stack: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(dagster_home.VARIABLE, stack.dagster_postgres_url)
    place = Home(tmp_path)
    dagster_home.write(place, stack.dagster_postgres_url)
    with DagsterInstance.from_config(str(dagster_home.folder(place))) as instance:
        assert isinstance(instance.event_log_storage, PostgresEventLogStorage)
        assert isinstance(instance.run_coordinator, QueuedRunCoordinator)
        assert isinstance(instance.run_launcher, DefaultRunLauncher)
        assert instance.run_monitoring_enabled and instance.run_monitoring_max_runtime_seconds == 6 * 3600
        assert not instance.run_launcher.supports_check_run_worker_health, "then worker health could be watched"
        assert instance.run_monitoring_settings["free_slots_after_run_end_seconds"] == 30
        assert instance.run_retries_enabled and instance.run_retries_max_retries == 2
        assert not instance.run_retries_retry_on_asset_or_op_failure
        assert instance.get_settings("sensors")["use_threads"] and instance.get_settings("schedules")["use_threads"]
        pools = instance.get_concurrency_config().pool_config
        assert pools.default_pool_limit == 1 and str(pools.pool_granularity).endswith("OP")
        assert instance.get_tick_retention_settings(InstigatorType.SENSOR)[TickStatus.SKIPPED] == 2
        assert not instance.telemetry_enabled and not instance.nux_enabled
