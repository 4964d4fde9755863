"""Names that Dagster gives things of ours, where other rooms have to know them. Imports no dagster."""

from __future__ import annotations

import re

FLEET = "fleet"


def worker_sensor(pipeline: str) -> str:
    """The sensor whose toggle switches the workers of a pipeline."""
    return re.sub(r"[^A-Za-z0-9_]", "_", pipeline) + "_worker"


def op(pipeline: str, what: str) -> str:
    """Name of an op that does `what` for a pipeline."""
    return f"{what}_{re.sub(r'[^A-Za-z0-9_]', '_', pipeline)}"
