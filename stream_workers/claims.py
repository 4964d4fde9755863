"""Which shards a worker should have: a fair share of them, by leases in Postgres on the database's clock."""

from __future__ import annotations

from dataclasses import dataclass, field

from ledger import Connection, leases, workers
from stream_workers.heartbeat import Heartbeat


def lease_name(pipeline: str, shard: int) -> str:
    """Name of a shard's lease."""
    return f"shard:{pipeline}:{shard}"


@dataclass
class Claims:
    """Leases of one worker; `held` are the shards it may read."""

    pipeline: str
    partitions: int
    worker: str
    seconds: float
    heartbeat: Heartbeat
    held: set[int] = field(default_factory=set)

    def tick(self, db: Connection) -> set[int]:
        """Take free shards up to the fair share; returns those to be dropped, lost or one too many."""
        lost = {shard for shard in self.held if lease_name(self.pipeline, shard) in self.heartbeat.lost()}
        for shard in lost:
            self.forget(shard)
        share = -(-self.partitions // max(1, workers.alive(db, self.pipeline, self.seconds)))
        surplus = set(sorted(self.held, reverse=True)[: max(0, len(self.held) - share)])
        for shard in surplus:
            self.release(db, shard)
        if len(self.held) < share:
            self._take(db, share)
        return lost | surplus

    def _take(self, db: Connection, share: int) -> None:
        names = {lease_name(self.pipeline, shard): shard for shard in range(self.partitions) if shard not in self.held}
        for name in leases.free(db, list(names)):
            if len(self.held) < share and leases.take(db, name, self.worker, self.seconds):
                self.held.add(names[name])
                self.heartbeat.hold(name)

    def forget(self, shard: int) -> None:
        """Stop renewing a lease without giving it back: somebody else holds it."""
        self.held.discard(shard)
        self.heartbeat.let_go(lease_name(self.pipeline, shard))

    def release(self, db: Connection, shard: int) -> None:
        """Give a shard back at once, so that another worker need not wait for the lease to run out."""
        self.forget(shard)
        leases.release(db, [lease_name(self.pipeline, shard)], self.worker)
