"""Homes of their own for tests that start and stop things."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import stack as services


@pytest.fixture
def new_home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., services.Home]]:
    """Make homes; whatever runs from them is stopped at the end."""
    for name in ("KAFKA_BOOTSTRAP", "REGISTRY_URL", "POSTGRES_URL", "DAGSTER_POSTGRES_URL"):
        monkeypatch.delenv(f"HEADRACE_{name}", raising=False)
    made: list[services.Home] = []

    def make(mode: int = 0o755) -> services.Home:
        folder = Path(tempfile.mkdtemp(prefix="headrace-stack-")).resolve()
        folder.chmod(mode)
        made.append(services.Home(folder))
        return made[-1]

    yield make
    for home in made:
        services.down(home)
        shutil.rmtree(home.root, ignore_errors=True)
