from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from ledger import Connection, connect

# Random examples of a Hypothesis test: `HEADRACE_EXAMPLES`, by default 15, or 1,000 in `make soak`.
EXAMPLES = int(os.environ.get("HEADRACE_EXAMPLES") or (1_000 if os.environ.get("HEADRACE_SOAK") else 15))


@pytest.fixture
def db(database: str) -> Iterator[Connection]:
    """A connection to a fresh database with an empty ledger."""
    with connect(database) as connection:
        yield connection
