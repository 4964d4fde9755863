"""Event-log retention on a real Postgres storage: rows fall, no status changes."""

# No postponed annotations here: dagster looks at the type of `context`.
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from dagster import (
    AssetCheckEvaluation,
    AssetCheckKey,
    AssetCheckResult,
    AssetCheckSeverity,
    AssetExecutionContext,
    AssetKey,
    AssetMaterialization,
    AssetObservation,
    DagsterInstance,
    DailyPartitionsDefinition,
    Definitions,
    MaterializeResult,
    asset,
    asset_check,
    define_asset_job,
    in_process_executor,
)
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value
from dagster_postgres import PostgresEventLogStorage

from orchestration import retention

DAYS = DailyPartitionsDefinition("2026-01-01", end_date="2026-01-08")
SALES, TOTALS = AssetKey(["postgres", "sales"]), AssetKey(["postgres", "totals"])
CHECK = AssetCheckKey(SALES, "accounting")
KEYS = [f"2026-01-0{day}" for day in range(1, 8)]


@asset(key=SALES, partitions_def=DAYS)
def sales(context: AssetExecutionContext) -> MaterializeResult[None]:
    if context.partition_key == KEYS[5]:
        raise RuntimeError("this day fails")
    return MaterializeResult(metadata={"by": "run"})


@asset(key=TOTALS)
def totals() -> MaterializeResult[None]:
    return MaterializeResult()


@asset_check(asset=TOTALS, name="volume")
def volume() -> AssetCheckResult:
    return AssetCheckResult(passed=False, severity=AssetCheckSeverity.WARN)


DEFS = Definitions(
    assets=[sales, totals],
    asset_checks=[volume],
    jobs=[define_asset_job("sales_job", [sales]), define_asset_job("totals_job", [totals]), *retention.jobs()],
    schedules=retention.schedules(),
    executor=in_process_executor,
)


class Site:
    """Dagster's storage, its rows, and what the UI makes of them."""

    def __init__(self, instance: DagsterInstance) -> None:
        self.instance = instance

    def sql(self, text: str, **given: Any) -> list[Any]:
        storage = self.instance.event_log_storage
        assert isinstance(storage, PostgresEventLogStorage)
        with storage.index_connection() as connection:
            found = connection.execute(sa.text(text), given)
            return list(found.fetchall()) if found.returns_rows else []

    def run(self, job: str, partition: str | None = None) -> str:
        made = DEFS.resolve_job_def(job)
        return made.execute_in_process(instance=self.instance, partition_key=partition, raise_on_error=False).run_id

    def report(self, rounds: int) -> None:
        """What ticks report: materializations per day and unpartitioned, observations, evaluations, freshness."""
        for number in range(rounds):
            for day in KEYS[:3]:
                self.instance.report_runless_asset_event(AssetMaterialization(SALES, partition=day))
            self.instance.report_runless_asset_event(AssetMaterialization(TOTALS))
            self.instance.report_runless_asset_event(AssetObservation(TOTALS))
            self.instance.report_runless_asset_event(
                AssetCheckEvaluation(
                    asset_key=SALES,
                    check_name="accounting",
                    passed=number % 2 == 0,
                    metadata={},
                    severity=AssetCheckSeverity.ERROR,
                )
            )
            self.instance.report_runless_asset_event(
                FreshnessStateChange(
                    key=SALES,
                    new_state=FreshnessState.PASS if number % 2 else FreshnessState.FAIL,
                    previous_state=FreshnessState.UNKNOWN,
                    state_change_timestamp=1.0 + number,
                )
            )

    def age(self, days: int) -> None:
        """Everything so far happened `days` earlier."""
        gone = f"interval '{days} days'"
        self.sql(f'update event_logs set "timestamp" = "timestamp" - {gone}')
        self.sql(
            f"update asset_check_executions set evaluation_event_timestamp = evaluation_event_timestamp - {gone},"
            f" create_timestamp = create_timestamp - {gone}"
        )
        self.sql(f"update runs set update_timestamp = update_timestamp - {gone}")

    def counts(self) -> dict[str, int]:
        found = self.sql(
            "select coalesce(dagster_event_type, 'line'), count(*) from event_logs where run_id = '' group by 1"
        )
        return {
            **dict(map(tuple, found)),
            "evaluations": self.sql("select count(*) from asset_check_executions")[0][0],
            "runs": self.instance.get_runs_count(),
        }

    def statuses(self) -> dict[str, Any]:
        """Latest events, partitions by status, checks, freshness, latest runs: computed anew, without the cache."""
        self.sql("update asset_keys set cached_status_data = null")
        storage = self.instance.event_log_storage
        cache = get_and_update_asset_status_cache_value(self.instance, SALES, DAYS)
        assert cache is not None
        records = {record.asset_entry.asset_key: record for record in storage.get_asset_records([SALES, TOTALS])}
        latest = storage.get_latest_asset_check_execution_by_key([CHECK, AssetCheckKey(TOTALS, "volume")])
        runs = {key: record.asset_entry.last_run_id for key, record in records.items()}
        return {
            "materialized": sorted(cache.deserialize_materialized_partition_subsets(DAYS).get_partition_keys()),
            "failed": sorted(cache.deserialize_failed_partition_subsets(DAYS).get_partition_keys()),
            "latest": {key: record.asset_entry.last_materialization_storage_id for key, record in records.items()},
            "by partition": storage.get_latest_storage_id_by_partition(SALES, _materialization()),
            "checks": {key: (record.status, record.run_id, record.id) for key, record in latest.items()},
            "summaries": {
                key: one.last_completed_check_execution_record.id
                for key, one in storage.get_asset_check_summary_records([CHECK]).items()
                if one.last_completed_check_execution_record
            },
            "freshness": {
                key: record.freshness_state for key, record in storage.get_freshness_state_records([SALES]).items()
            },
            "observation": self.instance.fetch_observations(TOTALS, limit=1).records[0].storage_id,
            "runs": {key: (run, self.instance.has_run(run)) for key, run in runs.items() if run},
        }

    def retain(self) -> dict[str, Any]:
        done = DEFS.resolve_job_def(retention.NAME).execute_in_process(instance=self.instance)
        assert done.success
        (event,) = [e for e in done.events_for_node("delete_old_events") if e.is_successful_output]
        return {name: value.value for name, value in event.step_output_data.metadata.items()}


def _materialization() -> Any:
    from dagster import DagsterEventType

    return DagsterEventType.ASSET_MATERIALIZATION


@pytest.fixture
def site(instance: DagsterInstance) -> Iterator[Site]:
    found = Site(instance)
    instance.event_log_storage.wipe()
    instance.run_storage.wipe()
    yield found


def test_old_rows_go_and_every_status_stays(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_EVENT_LOG_DAYS", "14")
    monkeypatch.setenv("HEADRACE_RUN_DAYS", "30")
    monkeypatch.setattr("orchestration.event_log._BATCH", 7)
    monkeypatch.setattr("orchestration.event_log._RUNS", 2)
    overtaken = [site.run("sales_job", KEYS[0]), site.run("totals_job")]
    newest = site.run("sales_job", KEYS[4])
    failed = site.run("sales_job", KEYS[5])
    checked = site.run("totals_job")
    site.report(6)
    site.age(40)
    site.report(2)
    site.age(1)
    before, statuses = site.counts(), site.statuses()
    assert statuses["materialized"] == [*KEYS[:3], KEYS[4]] and statuses["failed"] == [KEYS[5]]
    assert [status.value for status, _, _ in statuses["checks"].values()] == ["FAILED", "FAILED"]

    told = site.retain()
    after = site.counts()
    assert site.statuses() == statuses
    assert before["ASSET_MATERIALIZATION"] - after["ASSET_MATERIALIZATION"] == 24
    assert {kind: after[kind] for kind in ("ASSET_MATERIALIZATION", "ASSET_OBSERVATION", "FRESHNESS_STATE_CHANGE")} == {
        "ASSET_MATERIALIZATION": 8,
        "ASSET_OBSERVATION": 2,
        "FRESHNESS_STATE_CHANGE": 2,
    }
    assert after["ASSET_CHECK_EVALUATION"] == 2
    assert told["runs deleted"] == 2 and told["old runs kept for a status"] == 3
    assert [site.instance.has_run(run) for run in (*overtaken, newest, failed, checked)] == [
        False,
        False,
        True,
        True,
        True,
    ]
    assert site.sql("select count(*) from event_logs where run_id = any(:runs)", runs=overtaken) == [(0,)]
    assert told["events deleted"] == sum(told["events deleted by type"].values()) > 40

    assert site.retain()["events deleted"] == 0, "a second time there is nothing to do"
    site.age(100)
    site.retain()
    assert site.statuses() == statuses, "the newest ones stay at any age"
    last = site.counts()
    assert (last["ASSET_MATERIALIZATION"], last["ASSET_OBSERVATION"], last["FRESHNESS_STATE_CHANGE"]) == (4, 1, 1)
    assert site.sql(
        "select count(*) from asset_event_tags t where not exists (select from event_logs e where e.id = t.event_id)"
    ) == [(0,)]


def test_a_storage_that_is_not_postgres_is_refused_in_one_line() -> None:
    with DagsterInstance.ephemeral() as instance:
        done = DEFS.resolve_job_def(retention.NAME).execute_in_process(instance=instance, raise_on_error=False)
        assert not done.success
        (failure,) = [event for event in done.all_events if event.is_step_failure]
        text = str(failure.step_failure_data.user_failure_data)
        assert "needs Dagster's storage in Postgres" in text


def test_the_schedule_is_on_and_daily() -> None:
    schedule = DEFS.resolve_schedule_def("event_log_retention_daily")
    assert schedule.cron_schedule == "45 3 * * *" and schedule.default_status.value == "RUNNING"
