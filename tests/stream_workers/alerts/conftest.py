from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Services
from tests.stream_workers.alerts.rig import AlertRig


@pytest.fixture
def alerts(stack: Services, database: str, topic_name: str, tmp_path: Path) -> Iterator[AlertRig]:
    """Pipelines of its own, provisioned."""
    rig = AlertRig(stack, database, f"{topic_name}-orders", tmp_path, partitions=2)
    try:
        rig.command("provision")
        yield rig
    finally:
        rig.close()
