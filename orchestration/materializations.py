"""What a tick reports of topics and tables: what its numbers are called is what the UI plots.

A topic is observed, not materialized: nothing of ours put those records there, and a materialization would mark every
day of its tables as out of date that the new records do not touch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from dagster import AssetMaterialization, AssetObservation, MetadataValue

from ledger.observed import Place
from orchestration import judge, keys
from topology.program import PipelineProgram, TableProgram


@dataclass(frozen=True)
class Report:
    """What the events of one report have in common. records: consumed since the table's last report."""

    reason: str
    now: datetime
    places: Sequence[Place]
    records: int
    switch: str
    records_per_s: float


def topic(program: PipelineProgram, report: Report) -> AssetObservation:
    """The topic, as far as it was seen."""
    ends = {str(p.partition): p.end_offset for p in report.places if p.end_offset is not None}
    return AssetObservation(
        keys.topic_key(program.topic.name),
        description=f"Reported by the fleet: {report.reason}.",
        metadata={
            "end offsets": MetadataValue.json(dict(sorted(ends.items()))),
            "offsets": sum(end for end in ends.values() if end is not None),
            "switch": report.switch,
            "reported because": report.reason,
        },
    )


def table(
    program: TableProgram, partition: str | None, spans: Mapping[str, tuple[int, int]], report: Report
) -> AssetMaterialization:
    """A table, or one day of it. spans: offsets by partition whose records changed it since it was last reported."""
    lag = judge.lag(program, report.places, report.now).numbers
    return AssetMaterialization(
        keys.program_key(program),
        partition=partition,
        description=f"Reported by the fleet: {report.reason}.",
        metadata={
            "offsets": MetadataValue.json({shard: f"{low}-{high}" for shard, (low, high) in sorted(spans.items())}),
            "records since last report": report.records,
            "records per second": round(report.records_per_s, 1),
            **lag,
            "dead letters": sum(place.dead_lettered for place in report.places),
            "dead letters replayed": sum(place.replayed for place in report.places),
            "switch": report.switch,
            "reported because": report.reason,
            "table version": report.places[0].table_version,
        },
    )
