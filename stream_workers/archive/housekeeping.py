"""Compaction and verification of declared archives, for commands and schedules."""

from __future__ import annotations

from collections.abc import Iterable

from headrace.clock import SYSTEM_CLOCK
from headrace.failpoint import Failpoints
from headrace.settings import Settings
from ledger import Connection
from stream_workers.archive.compaction import Compacted, compact
from stream_workers.archive.lake import lake_of
from stream_workers.archive.verification import Verified, verify
from topology.program import TableProgram


def compact_all(db: Connection, programs: Iterable[TableProgram], settings: Settings) -> dict[str, Compacted]:
    """Compact archives one after another; by name what was done."""
    points = Failpoints(settings.failpoints)
    return {
        program.name: compact(db, points, lake_of(program, settings), program.version_id, SYSTEM_CLOCK.now())
        for program in programs
    }


def verify_all(
    db: Connection, programs: Iterable[TableProgram], settings: Settings, *, deep: bool
) -> dict[str, Verified]:
    """Verify archives; by name what was found."""
    return {
        program.name: verify(db, lake_of(program, settings), program.version_id, SYSTEM_CLOCK.now(), deep=deep)
        for program in programs
    }
