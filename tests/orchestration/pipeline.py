"""A pipeline with a real worker and its catalog, for checks that look at both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from assets import catalog as declared
from tests import fresh
from tests.conftest import Services
from tests.stream_workers.harness import Rig

TABLES = ["customer_order_totals", "product_sales"]


@contextmanager
def running(stack: Services, database: str, topic: str, folder: Path) -> Iterator[Rig]:
    """A rig whose worker processes are ended afterwards."""
    rig = Rig(stack, database, topic, folder, partitions=2)
    try:
        yield rig
    finally:
        rig.close()


def consume(rig: Rig) -> None:
    """Let a worker of its own read to the end: each has an entry of its own in the batch index."""
    worker = rig.start()
    rig.wait(rig.level)
    assert rig.stop(worker) == 0, rig.logs()


def catalog(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> declared.Catalog:
    """The catalog that the rig's workers run."""
    for name, value in rig.environment().items():
        if name.startswith("TEST_"):
            monkeypatch.setenv(name, value)
    return fresh.load()
