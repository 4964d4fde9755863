"""What the fleet sensor does in one tick, on the ledger. Imported by ticks only: it needs drivers.

1. Take the fleet's lease for the length of the tick: two daemons of one instance never report twice.
2. Leave everything alone when the switches belong to another Dagster instance.
3. Copy the toggles into the ledger's desired state.
4. Look at everything in one snapshot, judge it, and plan the events.
5. Note the tick: last, so that one that fails every time is seen as a fleet that does not tick.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import psycopg

from headrace.errors import HeadraceError
from headrace.settings import load
from ledger import Connection, connection, fleet, leases, workers
from ledger.observed import observe
from orchestration.cursor import Cursor
from orchestration.tick import Event, Tick
from topology.program import PipelineProgram

_LEASE_SECONDS = 30.0  # a code server killed in the middle of a tick keeps the next one waiting so long
_VOLUME_SECONDS = 3600.0  # volumes change slowly and cost a look at eight days of the batch index
_SESSION = "-c timezone=UTC -c statement_timeout=10s -c lock_timeout=2s"


@dataclass(frozen=True)
class Ticked:
    """What a tick gives to Dagster; `says` is shown at the tick."""

    events: Sequence[Event]
    cursor: str | None
    says: str


class Flight:
    """Ticks of one Dagster instance (`instance`: the id of its run storage)."""

    def __init__(
        self,
        pipelines: Mapping[str, PipelineProgram],
        instance: str,
        holder: str,
        clock: Callable[[Connection], datetime] = connection.now,
    ) -> None:
        self._pipelines, self._instance, self._holder, self._clock = pipelines, instance, holder, clock

    def tick(self, toggles: Callable[[], Mapping[str, bool]], cursor: str | None) -> Ticked:
        """One tick; one that could not be done says why and leaves the cursor where it is."""
        try:
            with connection.connect(load().need_postgres(), options=_SESSION, application="headrace fleet") as db:
                return self._leased(db, toggles, cursor)
        except (psycopg.OperationalError, HeadraceError) as error:
            why = " ".join(str(error).split())
            return Ticked((), cursor, f"{why}; workers go on, nothing was switched or reported")
        except psycopg.errors.UndefinedTable:
            return Ticked((), cursor, "the ledger has no tables yet; run `headrace provision`")

    def _leased(self, db: Connection, toggles: Callable[[], Mapping[str, bool]], cursor: str | None) -> Ticked:
        if not leases.take(db, fleet.LEASE, self._holder, _LEASE_SECONDS):
            return Ticked((), cursor, "another tick of the fleet is under way; this one did nothing")
        try:
            now = self._clock(db)
            owner = fleet.owner(db)
            if owner is not None and owner.instance != self._instance:
                return Ticked((), cursor, _not_ours(owner, now))
            on = toggles()
            workers.declare(db, sorted(self._pipelines))
            for pipeline in sorted(self._pipelines):
                workers.set_desired(db, pipeline, on[pipeline])
            done = self._report(db, Cursor.load(cursor), now)
            fleet.tick(db, self._instance, now)  # the lease keeps another instance from coming in between
            return done
        finally:
            leases.release(db, [fleet.LEASE], self._holder)

    def _report(self, db: Connection, cursor: Cursor, now: datetime) -> Ticked:
        volumes = abs(now.timestamp() - cursor.volume_at) >= _VOLUME_SECONDS
        tables = [table.name for program in self._pipelines.values() for table in program.tables]
        seen = observe(db, now, tables, since=cursor.known(), volumes=volumes)
        tick = Tick(self._pipelines, replace(seen, fleet=fleet.Fleet(self._instance, now)), cursor, now)
        tick.run()
        off = [name for name, switch in seen.switches.items() if name in self._pipelines and not switch.on(now)]
        running = sum(worker.state == "running" for worker in seen.workers)
        switched = f"off: {', '.join(sorted(off))}" if off else "all pipelines on"
        return Ticked(tick.events, cursor.dump(), f"{switched}; {running} workers; {len(tick.events)} events")


def _not_ours(owner: fleet.Fleet, now: datetime) -> str:
    age = (now - owner.ticked_at).total_seconds()
    return (
        f"the switches belong to the Dagster instance {owner.instance[:8]}, which ticked {age:.0f} s ago; this one did"
        " nothing; to move them here run `headrace fleet release`"
    )
