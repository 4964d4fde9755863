"""Names of the definitions in Dagster that others look for. Imports no dagster."""

from __future__ import annotations

import re

FLEET = "fleet"  # the sensor that copies the toggles of the pipelines' sensors into the ledger


def worker_sensor(pipeline: str) -> str:
    """The sensor whose toggle is the switch of the pipeline's workers."""
    return re.sub(r"[^A-Za-z0-9_]", "_", pipeline) + "_worker"
