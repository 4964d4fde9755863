"""The steps of a cut, named so that tests can stop or kill a worker between any two of them."""

from __future__ import annotations

from enum import Enum


class ArchiveStep(Enum):
    """Places in the order a cut passes them; `WRITING` is visited before every file."""

    HELD = "archive_held"
    INTENDED = "archive_intended"
    WRITING = "archive_writing"
    WRITTEN = "archive_written"
    BEGUN = "archive_begun"
    ADVANCED = "archive_advanced"
    LISTED = "archive_listed"
    INDEXED = "archive_indexed"
    COMMITTED = "archive_committed"
