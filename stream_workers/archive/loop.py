"""The loop of workers that write lakes: that of tables, with batches held back until they make a file.

A cut ends when enough is held (`roll_size`), when the first record held has waited for long enough (`roll_after`), when
the worker is told to stop, and where an earlier owner's cut has to end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ledger import Connection
from stream_workers.archive.committing import commit_cut
from stream_workers.archive.held import Held
from stream_workers.archive.lake import Lake, archive_of, lake_of
from stream_workers.archive.opening import ArchiveShard, open_archive
from stream_workers.archive.steps import ArchiveStep
from stream_workers.batch import Batch
from stream_workers.claims import Claims
from stream_workers.loop import Loop
from stream_workers.opening import ShardState, TableState
from stream_workers.routing import Routed
from stream_workers.watch import Watch
from topology.duration import micros
from topology.size import size_bytes


class ArchiveLoop(Loop):
    """One worker's loop over shards of archives."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        declared = {version: archive_of(table) for version, table in self._programs.items()}
        self._lakes: dict[str, Lake] = {}
        self._bytes = {version: size_bytes(one.roll_size) for version, one in declared.items()}
        self._seconds = {version: micros(one.roll_after) / 1e6 for version, one in declared.items()}

    def _claim(self, db: Connection, shard: int) -> tuple[ShardState, str]:
        return open_archive(db, self.kafka, self.program, shard, self.worker)

    def _commit(
        self, db: Connection, batch: Batch, state: ShardState, routed: Mapping[str, Routed]
    ) -> dict[str, TableState]:
        """Hold the batch back; write a cut where one is due."""
        assert isinstance(state, ArchiveShard)  # made by `_claim`
        adopted = {}
        for version, found in sorted(routed.items()):
            table, held = state.tables[version], state.held[version]
            move = held.add(batch, found, table, self.clock.monotonic())
            adopted[version] = replace(
                table,
                next_offset=move.to_offset,
                watermark=move.watermark,
                ended=move.ended,
                leader_epoch=batch.leader_epoch,
            )
            self.failpoints.hit(ArchiveStep.HELD)
            if self._due(version, held):
                adopted[version] = self._cut(db, state, version)
        return adopted

    def _due(self, version: str, held: Held) -> bool:
        move = held.move
        if move is None:
            return False
        if held.intended is not None:
            return move.to_offset == held.intended
        if not move.consumed:
            return True  # the end of the partition, or offsets that Kafka never delivers: no reason to wait
        waited = self.clock.monotonic() - held.since
        return held.bytes >= self._bytes[version] or waited >= self._seconds[version]

    def _cut(self, db: Connection, state: ArchiveShard, version: str) -> TableState:
        lake = self._lakes.get(version)
        if lake is None:
            lake = self._lakes[version] = lake_of(self._programs[version], self.settings)
        return commit_cut(db, self.failpoints, lake, state, version)

    def _tend(self, db: Connection, claims: Claims, watch: Watch) -> None:
        super()._tend(db, claims, watch)
        for shard in list(self._owned):
            self._cut_all(db, claims, shard, stopping=False)

    def _finish(self, db: Connection, claims: Claims, shard: int) -> None:
        self._cut_all(db, claims, shard, stopping=True)

    def _cut_all(self, db: Connection, claims: Claims, shard: int, *, stopping: bool) -> None:
        """Write the cuts of a shard that are due by now; when the worker stops, all but those begun elsewhere."""
        owned = self._owned.get(shard)
        if owned is None:
            return
        state = owned.state
        assert isinstance(state, ArchiveShard)
        with self._guarded(db, claims, shard):
            for version, held in list(state.held.items()):
                last = stopping and held.move is not None and held.intended is None
                if last or self._due(version, held):
                    state.tables[version] = self._cut(db, state, version)
                    self.prefetch.committed(owned.front, state.kept_offset)

    def _correct(self, db: Connection, claims: Claims) -> None:
        """A lake takes no corrections: it is the log as it was."""
