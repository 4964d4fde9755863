"""The loop of workers that make topics: that of tables, with a Kafka transaction where theirs has one in Postgres.

The owner of shard 0 also passes end-of-input markers on: when the smallest of the last markers of all partitions of the
source has grown, a marker with that event time goes into every partition of the derived topic. A marker in the source
says that its partition is complete up to then; since a new key may move a record into any partition, one of the derived
topic is complete only when all of the source's are.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import psycopg

from headrace.errors import Fenced, Transient
from ledger import Connection
from stream_workers.batch import Batch
from stream_workers.claims import Claims
from stream_workers.correcting import Commit
from stream_workers.derive import position
from stream_workers.derive.committing import Committing, marker_headers
from stream_workers.derive.correcting import Correcting
from stream_workers.derive.opening import DerivedShard, derived_of, open_derived, positions_of
from stream_workers.derive.position import Made, group_of
from stream_workers.derive.producer import ShardProducer
from stream_workers.derive.steps import DeriveStep
from stream_workers.loop import Loop
from stream_workers.opening import ShardState, TableState
from stream_workers.routing import Routed
from stream_workers.watch import Watch

log = logging.getLogger(__name__)

_MARK_SECONDS = 0.5
_AGAIN_SECONDS = 12 * 3600.0  # Kafka forgets the offset of a group after a week without a commit (rule B7)
_FIRST = 0  # the shard whose owner passes markers on


class DeriveLoop(Loop):
    """One worker's loop over shards of derived topics."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self._committing: Committing | None = None
        self._mark_at = 0.0
        self._touched: dict[int, float] = {}

    def _claim(self, db: Connection, shard: int) -> tuple[ShardState, str]:
        if self._committing is None:
            ids = {version: self._register(derived_of(table)) for version, table in self._programs.items()}
            failed = self.program.topic.dead_letters
            assert failed is not None  # the catalog refuses a source without it
            self._committing = Committing(self.program.name, self._programs, failed, ids, self.failpoints)
        groups = [group_of(table.name) for table in self.program.tables]
        found = open_derived(
            db,
            self.kafka,
            self.program,
            shard,
            self.worker,
            self.failpoints,
            lambda: ShardProducer(self.settings, self.program.name, self.program.topic.name, shard, groups),
        )
        self._touched[shard] = self.clock.monotonic()
        return found

    def _commit(
        self, db: Connection, batch: Batch, state: ShardState, routed: Mapping[str, Routed]
    ) -> dict[str, TableState]:
        assert isinstance(state, DerivedShard) and self._committing is not None  # made by `_claim`
        adopted = self._committing.commit(db, batch, state, routed)
        self._touched[state.shard] = self.clock.monotonic()
        return adopted

    def _drop(self, shard: int, *, ours: bool = True) -> None:
        owned = self._owned.get(shard)
        super()._drop(shard, ours=ours)
        if owned is not None and isinstance(owned.state, DerivedShard) and owned.state.producer is not None:
            owned.state.producer.close()

    def _tend(self, db: Connection, claims: Claims, watch: Watch) -> None:
        super()._tend(db, claims, watch)
        now = self.clock.monotonic()
        if now < self._mark_at:
            return
        self._mark_at = now + _MARK_SECONDS
        for shard, owned in list(self._owned.items()):
            state = owned.state
            assert isinstance(state, DerivedShard)
            try:
                marks = self._marks(state) if shard == _FIRST else {}
                if marks or now - self._touched[shard] > _AGAIN_SECONDS:
                    self._pass_on(state, marks)
                    self._touched[shard] = now
            except (psycopg.OperationalError, psycopg.InterfaceError):
                raise
            except Fenced as error:
                log.warning("%s", error)
                self._lose(claims, shard)
            except Exception as error:  # concerns this shard alone
                self._trouble(db, shard, error)

    def _corrections(self, db: Connection) -> Commit:
        assert self._committing is not None  # made by `_claim`
        return Correcting(db, self._committing, self.failpoints)

    def _marks(self, state: DerivedShard) -> dict[str, int]:
        """Event times of markers to pass on, by version. Only positions level with the own mirror are looked at."""
        found = {}
        for version, own in state.made.items():
            if own.marker is None or (own.forwarded is not None and own.marker <= own.forwarded):
                continue  # the smallest of all is no larger than the own one
            smallest = position.smallest_marker(self._everywhere(state, version, own))
            if smallest is not None and (own.forwarded is None or smallest > own.forwarded):
                found[version] = smallest
        return found

    def _everywhere(self, state: DerivedShard, version: str, own: Made) -> list[Made | None]:
        """What Kafka holds of every partition; None where it holds nothing of this topic."""
        name, others = self._programs[version].name, range(self.program.topic.partitions)
        assert state.producer is not None
        try:
            places = state.producer.positions(group_of(name), [n for n in others if n != state.shard])
        except Transient as error:
            log.warning("%s", error)
            return [None]
        found: list[Made | None] = [own]
        for partition, place in places.items():
            made = position.load(*place, f"{name} from {self.program.topic.name}[{partition}]") if place else None
            found.append(made if made is not None and made.output_id == own.output_id else None)
        return found

    def _pass_on(self, state: DerivedShard, marks: Mapping[str, int]) -> None:
        """One Kafka transaction: markers where some are due, and the positions as they are."""
        after = {
            version: replace(made, forwarded=marks.get(version, made.forwarded)) for version, made in state.made.items()
        }
        producer = state.producer
        assert producer is not None
        producer.begin()
        try:
            for version, event_time in marks.items():
                derived = derived_of(self._programs[version])
                producer.send_marker(derived.name, derived.partitions, marker_headers(event_time, self.program.name))
            producer.commit_positions(positions_of(self._programs, after))
            self.failpoints.hit(DeriveStep.MARKED)
        except BaseException:
            producer.abort()
            raise
        producer.commit()
        state.made.update(after)
        self.failpoints.hit(DeriveStep.MARKS_COMMITTED)
