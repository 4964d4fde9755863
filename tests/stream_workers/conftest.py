from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Services
from tests.stream_workers.harness import Rig
from tests.stream_workers.supervised import Supervised


@pytest.fixture
def rig(stack: Services, database: str, topic_name: str, tmp_path: Path) -> Iterator[Rig]:
    """A pipeline of its own."""
    rig = Rig(stack, database, f"{topic_name}-orders", tmp_path)
    try:
        yield rig
    finally:
        rig.close()


@pytest.fixture
def supervised(rig: Rig) -> Iterator[Supervised]:
    """A supervisor over the pipeline, to be started."""
    found = Supervised(rig)
    try:
        yield found
    finally:
        found.close()
