"""Waiting, for a bounded time, until tables that are looked up in have what their topics have.

A record that looks up finds what was in the other topic before it, as long as that table's workers keep up. Those that
do not are waited for no longer than `WAIT_SECONDS` at each batch, and not at all while they do not move.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from headrace.clock import Clock
from headrace.deadline import Deadline
from headrace.logging import fields
from ledger import Connection
from ledger.lookups import positions
from stream_workers.log import LogAdmin
from topology.program import LookupProgram

log = logging.getLogger(__name__)

WAIT_SECONDS = 5.0
_AGAIN = 0.02

Behind = Mapping[tuple[str, int], int]  # the next offset by table version and partition, where records follow it


class Leveling:
    """Waits for the tables of a pipeline's lookups."""

    def __init__(self, kafka: LogAdmin, clock: Clock) -> None:
        self._kafka, self._clock = kafka, clock
        self._given_up: Behind = {}  # where tables stood when they had been waited for in vain

    def wait(self, db: Connection, of: Sequence[LookupProgram]) -> None:
        """Wait until the tables are where their topics end by now. Raises what Kafka and Postgres raise.

        A table that is not there at all is not waited for: reading it says so.
        """
        ends = {lookup.version_id: self._kafka.describe(lookup.topic).end for lookup in of}
        deadline = Deadline.after(WAIT_SECONDS, self._clock)
        while behind := self._behind(db, ends):
            moving = {place: offset for place, offset in behind.items() if self._given_up.get(place) != offset}
            if moving and deadline.passed():
                tables = sorted({version for version, _ in moving})
                missing = sum(ends[version][partition] - offset for (version, partition), offset in behind.items())
                log.warning("lookups do not wait %s", fields(tables=tables, seconds=WAIT_SECONDS, behind=missing))
                self._given_up = behind
                return
            if not moving:
                return
            self._clock.wait(_AGAIN)
        self._given_up = {}

    @staticmethod
    def _behind(db: Connection, ends: Mapping[str, Mapping[int, int]]) -> Behind:
        found = {}
        for version, levels in positions(db, list(ends)).items():
            for partition, end in ends[version].items():
                at = levels[partition].next_offset if partition in levels else 0
                if at < end:
                    found[version, partition] = at
        return found
