"""Vectors: how far tables were when records were looked up in them (engine rule C8).

A vector names the versions of a table that count: those at offsets before the position of their partition, of replayed
dead letters those decided by then. With it the same records give the same rows, whenever they are read again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ledger.connection import Connection
from ledger.sql import sql


@dataclass(frozen=True)
class Level:
    """How far a table is in one partition: the next offset that it reads, the last correction that it has decided."""

    next_offset: int
    correction_seq: int


Vector = Mapping[str, Mapping[int, Level]]  # by table version and partition


def positions(db: Connection, table_versions: Sequence[str]) -> Vector:
    """How far these tables are now; those that do not live as such versions are left out."""
    found: dict[str, dict[int, Level]] = {}
    for version, partition, offset, seq in db.execute(
        sql("lookup_positions"), {"table_versions": list(table_versions)}
    ):
        levels = found.setdefault(version, {})
        if partition is not None:
            levels[partition] = Level(offset, seq)
    return found


def encoded(vector: Vector) -> str:
    """The vector as JSON: by table version and partition the next offset and the last correction."""
    return json.dumps(
        {
            version: {str(partition): [at.next_offset, at.correction_seq] for partition, at in sorted(levels.items())}
            for version, levels in sorted(vector.items())
        }
    )


def decoded(vector: Mapping[str, Mapping[str, Sequence[int]]]) -> Vector:
    """The vector that the index keeps as JSON."""
    return {
        version: {int(partition): Level(*at) for partition, at in levels.items()} for version, levels in vector.items()
    }
