"""Definitions with nothing but a pipeline's sensor and one that copies its toggle into the ledger."""

from __future__ import annotations

from dagster import DefaultSensorStatus, Definitions, SensorEvaluationContext, SkipReason, sensor
from dagster._core.storage.runs.sql_run_storage import SqlRunStorage

from headrace.settings import load
from ledger import connect
from ledger import fleet as owners
from ledger.connection import now
from ledger.workers import set_desired
from orchestration.names import FLEET, worker_sensor


@sensor(name=worker_sensor("orders"), default_status=DefaultSensorStatus.RUNNING)
def orders_worker(_: SensorEvaluationContext) -> SkipReason:
    return SkipReason("a switch")


@sensor(name=FLEET, minimum_interval_seconds=1, default_status=DefaultSensorStatus.RUNNING)
def fleet(context: SensorEvaluationContext) -> SkipReason:
    storage = context.instance.run_storage
    assert isinstance(storage, SqlRunStorage)
    states = {state.name: state.is_running for state in context.instance.all_instigator_state()}
    with connect(load().need_postgres()) as db:
        if not owners.tick(db, storage.get_run_storage_id(), now(db)):
            return SkipReason("another instance owns the fleet")
        set_desired(db, "orders", states.get(worker_sensor("orders"), True))
    return SkipReason("copied")


defs = Definitions(sensors=[orders_worker, fleet])
