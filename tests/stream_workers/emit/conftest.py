from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from tests.conftest import Services
from tests.stream_workers.derive.rig import DerivedRig
from tests.stream_workers.emit.changes_rig import ChangesRig
from tests.stream_workers.emit.letters_rig import LettersRig
from tests.stream_workers.emit.owned_rig import OwnedFinalRig
from tests.stream_workers.emit.rig import FinalRig

R = TypeVar("R", bound=DerivedRig)


def _provisioned(rig: R) -> Iterator[R]:
    try:
        rig.command("provision")
        yield rig
    finally:
        rig.close()


@pytest.fixture
def final(stack: Services, database: str, topic_name: str, tmp_path: Path) -> Iterator[FinalRig]:
    """A pipeline of its own, provisioned."""
    yield from _provisioned(FinalRig(stack, database, f"{topic_name}-orders", tmp_path, partitions=2))


@pytest.fixture
def letters(stack: Services, database: str, topic_name: str, tmp_path: Path) -> Iterator[LettersRig]:
    """A pipeline of its own, provisioned."""
    yield from _provisioned(LettersRig(stack, database, f"{topic_name}-orders", tmp_path, partitions=2))


@pytest.fixture
def changes(stack: Services, database: str, topic_name: str, tmp_path: Path) -> Iterator[ChangesRig]:
    """A pipeline of its own, provisioned."""
    yield from _provisioned(ChangesRig(stack, database, f"{topic_name}-orders", tmp_path, partitions=2))


@pytest.fixture
def final_owned(stack: Services, database: str, topic_name: str, tmp_path: Path) -> Iterator[OwnedFinalRig]:
    """A pipeline of its own, provisioned."""
    yield from _provisioned(OwnedFinalRig(stack, database, f"{topic_name}-orders", tmp_path, partitions=2))
