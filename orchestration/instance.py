"""What we ask of a Dagster instance beyond its public methods; read for dagster 1.13.27."""

from __future__ import annotations

from collections.abc import Iterable

from dagster import DagsterInstance, SensorEvaluationContext
from dagster._core.scheduler.instigation import InstigatorStatus, InstigatorType

from headrace.errors import Terminal
from orchestration import names


def identity(instance: DagsterInstance) -> str:
    """What tells one instance from another: the first id that its run storage was given.

    Dagster reads any row of the ids and makes one where there is none, without a lock: processes that start together
    on a new storage make several, and a later answer may be another one. The first row is the same for everybody.
    """
    from dagster._core.storage.runs.schema import InstanceInfo
    from dagster._core.storage.runs.sql_run_storage import SqlRunStorage  # brings sqlalchemy

    storage = instance.run_storage
    if not isinstance(storage, SqlRunStorage):
        raise Terminal("this Dagster instance keeps its runs in no database; write storage: postgres in dagster.yaml")
    storage.get_run_storage_id()
    first, *_ = storage.fetchall(InstanceInfo.select().order_by(InstanceInfo.c.id))
    return str(first["run_storage_id"])


def toggles(context: SensorEvaluationContext, pipelines: Iterable[str]) -> dict[str, bool]:
    """Whether the sensor of each pipeline is switched on, in the code location that this tick belongs to.

    A sensor that nobody has touched has no state: it is as its definition says, which is on. Other locations (an older
    name, a second checkout on the same instance) have toggles of their own that mean nothing here.
    """
    origin = context.code_location_origin
    on = dict.fromkeys(pipelines, True)
    by_sensor = {names.worker_sensor(pipeline): pipeline for pipeline in on}
    for state in context.instance.all_instigator_state(instigator_type=InstigatorType.SENSOR):
        of = state.origin.repository_origin
        if context.repository_name is not None and of.repository_name != context.repository_name:
            continue
        if origin is not None and of.code_location_origin.location_name != origin.location_name:
            continue
        if state.instigator_name in by_sensor:
            on[by_sensor[state.instigator_name]] = state.status is not InstigatorStatus.STOPPED
    return on
