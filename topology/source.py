"""Files that are ingested into a topic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from topology.topic import Topic


@dataclass(frozen=True)
class FileSource:
    """Landing files of one shape: CSV with a header line, or JSON with one object per line.

    path: glob relative to the landing folder (`HEADRACE_LANDING`). columns: file column of a message field where the
    two names differ.
    """

    name: str
    topic: Topic
    path: str
    format: Literal["csv", "json"]
    columns: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    owners: tuple[str, ...] = ()
