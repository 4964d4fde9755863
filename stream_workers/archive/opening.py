"""Opening a shard of archives: as that of tables, and with the cuts that an earlier owner began."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ledger import Connection, archive
from stream_workers.archive.held import Held
from stream_workers.log import LogAdmin
from stream_workers.opening import ShardState, open_shard
from topology.program import PipelineProgram


@dataclass
class ArchiveShard(ShardState):
    """A claimed shard: by version id what is held back. Its tables say how far records were read."""

    held: dict[str, Held] = field(default_factory=dict)

    @property
    def kept_offset(self) -> int:
        """Up to where the ledger has everything."""
        return min(held.table.next_offset for held in self.held.values())

    def edges(self) -> list[int]:
        """Also where a cut has to end that was begun."""
        return [*super().edges(), *(held.intended for held in self.held.values() if held.intended is not None)]

    def folder(self, version: str) -> str:
        """Folder of this build of an archive: one that is built anew never writes over the files of an earlier one."""
        return f"{version.partition('@')[2]}-{re.sub('[^0-9]', '', self.born.partition('+')[0])}"


def open_archive(
    db: Connection, kafka: LogAdmin, program: PipelineProgram, shard: int, worker: str
) -> tuple[ArchiveShard, str]:
    """Claim a shard; returns its state and the topic's id. Raises an `OffsetError`, and resets nothing."""
    state, topic_id = open_shard(db, kafka, program, shard, worker)
    return hold(db, state), topic_id


def hold(db: Connection, state: ShardState) -> ArchiveShard:
    """A shard just claimed, with nothing held back yet."""
    begun = archive.intents(db, list(state.tables), state.shard)
    held = {version: Held(table, begun.get(version)) for version, table in state.tables.items()}
    return ArchiveShard(state.shard, state.topic, state.born, state.tables, held)
