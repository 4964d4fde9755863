"""The fleet sensor: copies the pipelines' toggles into the ledger, where the supervisor obeys them, and tells Dagster
how tables and workers are.

It reads Postgres alone and never Kafka, so that a tick ends within a second whatever the broker does. Workers need
neither it nor Dagster: they go on as the ledger last said.
"""

# No postponed annotations here: dagster looks at the type of `context`.
import uuid
from collections.abc import Mapping

from dagster import DefaultSensorStatus, SensorDefinition, SensorEvaluationContext, SensorResult
from dagster import sensor as dagster_sensor

from orchestration import instance, names
from topology.program import PipelineProgram


def sensor(pipelines: Mapping[str, PipelineProgram]) -> SensorDefinition:
    """The one fleet sensor."""

    @dagster_sensor(
        name=names.FLEET,
        minimum_interval_seconds=5,
        default_status=DefaultSensorStatus.RUNNING,
        description="Switches workers as the sensors *_worker say, and reports tables, workers and checks.",
    )
    def fleet(context: SensorEvaluationContext) -> SensorResult:
        from orchestration.flight import Flight  # drivers are for those that tick, not for those that load

        flight = Flight(pipelines, instance.identity(context.instance), f"tick-{uuid.uuid4().hex[:8]}")
        done = flight.tick(lambda: instance.toggles(context, pipelines), context.cursor)
        return SensorResult(asset_events=done.events, cursor=done.cursor, skip_reason=done.says)

    return fleet
