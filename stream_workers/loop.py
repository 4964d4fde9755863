"""The worker's loop: claim, read, decode, route, commit, adopt.

    while running:
        tend the shards            (leases gained and lost, what the watch found, corrections)
        fetched = prefetch.next()  (columns of one shard, decoded)
        lookups.enrich()           (columns of other tables as of each record's time, where declared)
        routed  = router.route()   (one fate per record, counted; SQL over Arrow)
        commit()                   (ONE Postgres transaction; the compare-and-set comes first)
        adopt                      (carried state changes only here, after the commit)

Whatever goes wrong with a shard has one answer: throw its memory away, open it anew from the ledger (engine rule B3).
"""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import duckdb
import psycopg

from headrace.clock import Clock
from headrace.errors import Fenced, HeadraceError, Terminal
from headrace.failpoint import Failpoints
from headrace.logging import fields
from headrace.settings import Settings
from ledger import Connection, corrections, shards
from ledger.shards import Position
from stream_workers.batch import Batch
from stream_workers.claims import Claims
from stream_workers.committing import commit
from stream_workers.correcting import Commit, correct
from stream_workers.dedup import look_up
from stream_workers.emit.sender import Sender
from stream_workers.heartbeat import End
from stream_workers.leveling import Leveling
from stream_workers.log import LogAdmin
from stream_workers.lookups import Lookups
from stream_workers.meter import Meter
from stream_workers.opening import ShardState, TableState, open_shard
from stream_workers.owned import Owned, readers
from stream_workers.prefetch import Fetched, Prefetch
from stream_workers.routing import Forced, Poison, Routed, Router
from stream_workers.source import Source
from stream_workers.steps import CatchUpStep, Step
from stream_workers.versions import register
from stream_workers.watch import Watch
from topology.program import PipelineProgram
from topology.topic import Topic

log = logging.getLogger(__name__)

_TEND_SECONDS = 0.5
_BLOCKED_SECONDS = 5.0  # a shard that needs a person is looked at again this often
_BACKOFF_SECONDS = (0.1, 5.0)


@dataclass
class Waiting:
    """A leased shard that could not be opened or failed: when to try again, and how long the pause was.

    Stays until a batch succeeds, so that a shard that opens and fails at once is tried less and less often.
    """

    until: float
    pause: float


class Loop:
    """One worker's loop over its shards. Runs in the thread that calls `run`. sender: of what shards send.

    register: the registry's id of a topic's schema.
    """

    def __init__(
        self,
        program: PipelineProgram,
        settings: Settings,
        worker: str,
        clock: Clock,
        failpoints: Failpoints,
        kafka: LogAdmin,
        prefetch: Prefetch,
        meter: Meter,
        register: Callable[[Topic], int],
        sender: Sender | None = None,
    ) -> None:
        self.program, self.settings, self.worker, self.clock = program, settings, worker, clock
        self.failpoints, self.kafka, self.prefetch, self.meter = failpoints, kafka, prefetch, meter
        self.sender, self._register = sender, register
        self.stopping = threading.Event()
        self.last_error: str | None = None
        self._programs = {table.version_id: table for table in program.tables}
        self._router = Router(program)
        self._lookups = Lookups(program, Leveling(kafka, clock).wait)
        self._owned: dict[int, Owned] = {}
        self._schema_ids: dict[str, int] = {}
        self._waiting: dict[int, Waiting] = {}
        self._behind: dict[int, tuple[int, float]] = {}  # offset, and since when records are known to wait there
        self._tend_at = 0.0

    def run(self, db: Connection, claims: Claims, watch: Watch) -> None:
        """Work until `stopping` is set, then give every shard back. psycopg's connection errors pass through."""
        while not self.stopping.is_set():
            self._tend(db, claims, watch)
            fetched = self.prefetch.next(_TEND_SECONDS / 2)
            if fetched is not None:
                self._step(db, claims, fetched)
        for shard in sorted(claims.held):
            self._finish(db, claims, shard)
            self._drop(shard)
            claims.release(db, shard)

    # -- one batch

    def _step(self, db: Connection, claims: Claims, fetched: Fetched) -> None:
        owned = self._owned.get(fetched.source.shard)
        if owned is None or fetched.source not in owned.readers:
            return  # prefetched for an earlier claim of the shard, or for tables that have joined others
        with self._guarded(db, claims, owned.state.shard):
            if fetched.error is not None:
                raise fetched.error
            if fetched.batch is not None:
                self.failpoints.hit(Step.POLLED)
                self._advance(db, owned, fetched.source, fetched.batch)

    @contextmanager
    def _guarded(self, db: Connection, claims: Claims, shard: int) -> Iterator[None]:
        """Whatever fails in here, other than the connection, concerns this shard alone and drops its memory."""
        try:
            yield
        except (psycopg.OperationalError, psycopg.InterfaceError):
            raise
        except Fenced as error:
            log.warning("%s", error)
            self._lose(claims, shard)
        except Exception as error:
            self._trouble(db, shard, error)

    def _advance(self, db: Connection, owned: Owned, source: Source, batch: Batch) -> None:
        """Give the batch to the tables of its source, up to where they reach others, which have had the rest of it."""
        state = owned.state
        batch = self._lookups.enrich(db, batch)
        start = batch.from_offset
        while start < batch.to_offset and source in owned.readers:
            stop = min([batch.to_offset, *(edge for edge in state.edges() if edge > start)])
            self._settle(db, owned, batch.cut(start, stop), owned.readers[source], Forced())
            start = stop
            if owned.join(source):
                self.failpoints.hit(CatchUpStep.JOINED)
                self.prefetch.drop(source, ours=False)
        self.prefetch.committed(owned.front, state.kept_offset)
        self.failpoints.hit(Step.OFFSETS_NOTED)
        waiting = batch.timestamps[-1] / 1000 if batch.records and not batch.level else None
        if source not in owned.readers or owned.at(source) == state.next_offset:  # else others wait for longer
            owned.waiting_since = waiting
        self.meter.add(batch.records, self.clock.monotonic())
        self._waiting.pop(state.shard, None)

    def _settle(self, db: Connection, owned: Owned, batch: Batch, versions: list[str], forced: Forced) -> None:
        """Commit a batch; where a record poisons it, halve it until that record stands alone and is a dead letter."""
        state = owned.state
        try:
            watermarks = {version: state.tables[version].watermark for version in versions}
            routed = self._router.route(batch, watermarks, forced, look_up(db, batch.shard))
            self.failpoints.hit(Step.ROUTED)
            adopted = self._commit(db, batch, state, routed)
        except Poison as poison:
            if poison.version_id in forced.refused or not batch.records:
                raise
            if batch.records == 1:
                refused = {**forced.refused, poison.version_id: (poison.reason, poison.detail)}
                self._settle(db, owned, batch, versions, Forced(refused))
                return
            middle = int(batch.offsets[batch.records // 2])
            self._settle(db, owned, batch.cut(batch.from_offset, middle), versions, forced)
            self._settle(db, owned, batch.cut(middle, batch.to_offset), versions, forced)
            return
        state.tables.update(adopted)
        self.failpoints.hit(Step.ADOPTED)
        self._sent(state)

    def _sent(self, state: ShardState) -> None:
        """What a transaction has put into the shard's outboxes is committed."""
        if self.sender is not None:
            self.sender.due(state.shard, state.sent)

    def _commit(
        self, db: Connection, batch: Batch, state: ShardState, routed: Mapping[str, Routed]
    ) -> dict[str, TableState]:
        """Make the batch last; returns the table states to adopt."""
        return commit(db, self.failpoints, batch, state, self._programs, routed)

    def _finish(self, db: Connection, claims: Claims, shard: int) -> None:
        """Before a shard is given back when the worker ends: make last what is held back of it; here nothing is."""

    # -- shards

    def _tend(self, db: Connection, claims: Claims, watch: Watch) -> None:
        """Drop shards that were lost or have a problem, open those that are held and not read yet."""
        now = self.clock.monotonic()
        if now < self._tend_at:
            return
        self._tend_at = now + _TEND_SECONDS
        for shard in claims.tick(db):
            self._drop(shard)
            self._leave(shard)
            self._waiting.pop(shard, None)
        current = shards.epochs(db, list(self._programs)) if self._owned else {}
        for shard, owned in list(self._owned.items()):
            if any(current.get((t.version_id, shard)) != t.epoch for t in owned.state.tables.values()):
                log.warning("claimed by another worker, or built anew: %s", fields(shard=shard))
                self._lose(claims, shard)
        for shard, problem in watch.problems().items():
            if shard in self._owned:
                self._trouble(db, shard, problem)
        for shard in sorted(claims.held - self._owned.keys()):
            if self._ready(shard, now):
                self._open(db, shard)
        self._correct(db, claims)

    def _ready(self, shard: int, now: float) -> bool:
        """Whether a shard may be opened now: its pause is over, and Kafka has taken most of what it sent."""
        waiting = self._waiting.get(shard)
        return waiting is None or (waiting.until <= now and not (self.sender and self.sender.full(shard)))

    def _correct(self, db: Connection, claims: Claims) -> None:
        """Decide corrections that are due, between two batches; at the next turn again when there are more."""
        newest = corrections.last(db, self.program.topic.name, sorted(self._owned)) if self._owned else {}
        for shard, owned in list(self._owned.items()):
            if any(table.correction_seq < newest[shard] for table in owned.state.tables.values()):
                with self._guarded(db, claims, shard):
                    parts = (self.failpoints, partial(self._decoded, db), self._router, self._programs, owned.state)
                    if correct(db, *parts, self._corrections(db)):
                        self._tend_at = 0.0
                    self._sent(owned.state)

    def _corrections(self, db: Connection) -> Commit | None:
        """Where decisions about corrections are written; None: with the rows, in Postgres."""
        return None

    def _decoded(self, db: Connection, batch: Batch) -> Batch:
        """A batch of corrections as the records of any other come from the prefetch."""
        return self._lookups.enrich(db, self.prefetch.decode(batch))

    def _open(self, db: Connection, shard: int) -> None:
        try:
            register(db, self.program)  # a rebuild has dropped what the start of the process made
            state, topic_id = self._claim(db, shard)
            self.failpoints.hit(Step.CLAIMED)
            if self.sender is not None:
                for box in state.outboxes.values():
                    self.sender.open(db, box)
            where = (self.settings, self.program.name, shard, state.topic, shard)
            owned = Owned(
                state, topic_id, readers(state, lambda offset, epoch: Source(*where, offset, epoch, state.born))
            )
        except (psycopg.OperationalError, psycopg.InterfaceError):
            raise
        except Exception as error:
            self._trouble(db, shard, error)
            return
        self._owned[shard] = owned
        for source in owned.readers:
            self.prefetch.add(source)
        shards.note(db, sorted(state.tables), shard, None)
        self.last_error = None
        log.info("reading %s", fields(topic=state.topic, shard=shard, offset=state.next_offset))

    def _claim(self, db: Connection, shard: int) -> tuple[ShardState, str]:
        """Claim a shard; its state and the topic's id."""
        if not self._schema_ids:
            self._schema_ids = {
                one.writer: self._register(one.declared) for one in self.program.outlets if one.declared is not None
            }
        return open_shard(db, self.kafka, self.program, shard, self.worker, self._schema_ids)

    def _trouble(self, db: Connection, shard: int, error: Exception) -> None:
        """Drop the shard and try again later; a person sees why in `headrace status`."""
        self._drop(shard)
        pause = _BLOCKED_SECONDS
        if not isinstance(error, Terminal):
            before = self._waiting.get(shard)
            pause = min(_BACKOFF_SECONDS[1], 2 * before.pause if before else _BACKOFF_SECONDS[0])
        self._waiting[shard] = Waiting(self.clock.monotonic() + pause, pause)
        self.last_error = str(error) or type(error).__name__
        if isinstance(error, duckdb.Error):
            self._lookups.reset()
            self._router = Router(self.program)  # a database that failed once may be invalid from then on
        gc.collect()  # tracebacks hold batches in cycles, and the collector is off
        known = isinstance(error, HeadraceError)
        log.error("%s", fields(shard=shard, error=self.last_error), exc_info=None if known else error)
        if not isinstance(error, Fenced):  # the shard is another's, and with it the note
            shards.note(db, sorted(self._programs), shard, self.last_error)

    def _drop(self, shard: int, *, ours: bool = True) -> None:
        owned = self._owned.pop(shard, None)
        if owned is not None:
            front = owned.front
            for source in owned.readers:
                self.prefetch.drop(source, ours=ours and source is front)

    def _lose(self, claims: Claims, shard: int) -> None:
        """The shard has another epoch by now: forget it; the lease, if it is still ours, runs out."""
        self._drop(shard, ours=False)
        self._leave(shard)
        claims.forget(shard)

    def _leave(self, shard: int) -> None:
        """Send nothing more of a shard; while it only has trouble, what is in its outbox goes on to Kafka."""
        if self.sender is not None:
            self.sender.drop(shard)

    def drop_all(self) -> None:
        """Throw all memory away: the connection to Postgres was lost."""
        for shard in list(self._owned):
            self._drop(shard)

    # -- read by other threads

    def shards(self) -> list[int]:
        """Shards that are being read."""
        return sorted(self._owned)

    def positions(self) -> Mapping[int, list[Position]]:
        """Where the owned shards stand."""
        return {
            shard: [
                Position(o.state.topic, shard, o.topic_id, t.leader_epoch, 0, t.next_offset, t.watermark, t.ended)
                for t in list(o.state.tables.values())
            ]
            for shard, o in list(self._owned.items())
        }

    def ends(self, watch: Watch) -> list[End]:
        """How far the owned partitions reach, as the watch last saw them."""
        seen = watch.seen
        if seen is None:
            return []
        log, asked = seen
        ago = self.clock.monotonic() - asked
        found = []
        for shard, owned in list(self._owned.items()):
            at = owned.state.kept_offset
            end = max(log.end.get(shard, 0), at)
            since = None if at >= end else owned.waiting_since or self._since(shard, at)
            found.append(End(owned.state.topic, shard, end, since, ago))
        return found

    def _since(self, shard: int, offset: int) -> float:
        """Wall-clock seconds since records are known to wait at an offset that was level after its last batch."""
        known, since = self._behind.get(shard, (-1, 0.0))
        if known != offset:
            since = self.clock.now().timestamp()
            self._behind[shard] = offset, since
        return since
