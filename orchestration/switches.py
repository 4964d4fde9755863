"""One sensor per pipeline: its toggle is the switch of the pipeline's workers. The fleet sensor does the switching.

Its own tick only says how the pipeline is, and watches the one that watches: a fleet that does not tick cannot tell.
It names the tables as its assets and never asks for a run, so that the page of a table leads to its switch.
"""

# No postponed annotations here: dagster looks at the type of `context`.
from dagster import AssetSelection, DefaultSensorStatus, SensorDefinition, SensorEvaluationContext, SensorResult
from dagster import sensor as dagster_sensor

from orchestration import instance, keys, names
from topology.program import PipelineProgram


def sensor(program: PipelineProgram) -> SensorDefinition:
    """The sensor of one pipeline."""
    tables = ", ".join(table.name for table in program.tables)

    @dagster_sensor(
        name=names.worker_sensor(program.name),
        asset_selection=AssetSelection.assets(*(keys.program_key(table) for table in program.tables)),
        minimum_interval_seconds=30,
        default_status=DefaultSensorStatus.RUNNING,
        description=f"The switch of the stream workers that keep {tables}: on, they run; off, they drain and stop.",
    )
    def worker(context: SensorEvaluationContext) -> SensorResult:
        from orchestration.watching import watch

        done = watch(program, context.cursor, instance.identity(context.instance))
        return SensorResult(asset_events=done.events, cursor=done.cursor, skip_reason=done.says)

    return worker
