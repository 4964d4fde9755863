from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Services
from tests.stream_workers.archive.rig import ArchiveRig


@pytest.fixture
def archived(stack: Services, database: str, topic_name: str, tmp_path: Path) -> Iterator[ArchiveRig]:
    """A pipeline of its own, provisioned, with a lake in a folder of its own."""
    rig = ArchiveRig(stack, database, f"{topic_name}-orders", tmp_path, partitions=2)
    try:
        rig.command("provision")
        yield rig
    finally:
        rig.close()
