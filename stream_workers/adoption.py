"""Workers that this supervisor did not start: an earlier one left them, maybe before they had said a word.

A supervisor that was killed right after it started a worker leaves a process the ledger does not know yet. So this
looks again and again: such a worker is taken into its place, or drained when another has it by now.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress

import psutil

from headrace.deadline import Deadline
from headrace.logging import fields
from ledger import Connection, workers
from stream_workers import slot as places
from stream_workers.slot import Slot

log = logging.getLogger(__name__)

DRAIN_SECONDS = 20.0


class Adoption:
    """Looks for workers of `host` that are in none of `slots`."""

    def __init__(self, slots: Sequence[Slot], host: str) -> None:
        self._slots, self._host = slots, host
        self._too_many: dict[str, tuple[psutil.Process, Deadline]] = {}

    def look(self, db: Connection) -> None:
        """Adopt, drain or bury every worker that the ledger holds for unfinished and no slot has."""
        placed = {slot.worker for slot in self._slots}
        unfinished = [found for found in workers.unfinished(db, self._host) if found.worker not in placed]
        for found in unfinished:
            process = places.process(found.pid, found.process_start)
            if process is None:
                workers.lost(db, found.worker)
            elif found.worker in self._too_many:
                self._insist(found.worker)
            elif places.supervised(found.pipeline, found.worker):
                self._place(found, process)
        self._too_many = {name: self._too_many[name] for name in self._too_many.keys() & {f.worker for f in unfinished}}

    def _place(self, found: workers.Process, process: psutil.Process) -> None:
        free = [s for s in self._slots if s.pipeline == found.pipeline and s.process is None]
        free.sort(key=lambda s: not s.named(found.worker))
        if not free:
            log.info("draining a worker too many %s", fields(worker=found.worker, pid=found.pid))
            self._too_many[found.worker] = (process, Deadline.after(DRAIN_SECONDS))
            with suppress(psutil.NoSuchProcess):
                process.terminate()
            return
        slot = free[0]
        slot.worker, slot.process = found.worker, process
        # One that drains already was told so by the supervisor before us: its end is no failure.
        slot.draining = Deadline.after(DRAIN_SECONDS) if found.state == "draining" else None
        log.info("adopted %s", fields(worker=found.worker, pid=found.pid, state=found.state))

    def _insist(self, worker: str) -> None:
        process, until = self._too_many[worker]
        if until.passed():
            log.error("did not drain in %s s, killed; nothing is lost %s", DRAIN_SECONDS, fields(worker=worker))
            with suppress(psutil.NoSuchProcess):
                process.kill()
