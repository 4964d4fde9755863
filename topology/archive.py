"""Topics kept as Parquet files, beyond the time for which Kafka keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from topology.topic import Topic


@dataclass(frozen=True)
class Archive:
    """A lake of Parquet files with every valid record of a topic, once, written by workers of its own.

    at: where the files go, `file:///folder` or `s3://bucket/prefix`; default: a folder of the archive's name below the
    setting `HEADRACE_LAKE`. A file is written when a partition has brought `roll_size` of records (as they are in
    memory) or when the first of them has waited for `roll_after`. made_by: name of the worker group, default
    `<source's pipeline>-archive`. fresh_within, max_lag: as for tables; both must be longer than `roll_after`.
    """

    name: str
    source: Topic
    at: str | None = None
    roll_size: str = "64 MB"
    roll_after: str = "5 minutes"
    made_by: str | None = None
    fresh_within: str = "30 minutes"
    max_lag: str = "15 minutes"
    description: str = ""
    owners: tuple[str, ...] = field(default=())

    @property
    def maker(self) -> str:
        """Name of the worker group that writes it."""
        return self.made_by or f"{self.source.pipeline_name}-archive"

    # -- as tables have them

    @property
    def by(self) -> tuple[str, ...]:
        """It groups nothing."""
        return ()

    @property
    def measures(self) -> Mapping[str, str]:
        """It computes nothing."""
        return {}

    @property
    def where(self) -> None:
        """It takes every valid record."""
        return

    @property
    def window(self) -> None:
        """It has no windows."""
        return
