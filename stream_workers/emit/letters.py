"""Dead letters of tables on their way to the dead-letter topic: through the shard's outbox, with the batch.

The ledger is the truth, the topic is told: each record that tables of a pipeline refuse is in it once, however many
tables refuse it and at whatever time. It says why the first of them does, by name, and whom else of the batch it
concerns.
"""

from __future__ import annotations

from collections.abc import Mapping

from ledger import Connection, dead_letters, outbox, outboxes
from stream_workers.batch import Batch
from stream_workers.refused import refused
from stream_workers.routing import Refusal, Routed


def send(db: Connection, box: outboxes.Claim, topic: str, seq: int, batch: Batch, routed: Mapping[str, Routed]) -> int:
    """Put what the batch refuses into the outbox, after number `seq`; the last number.

    In the batch's transaction, after `outboxes.lock` and before the ledger has the dead letters.
    """
    found: dict[int, list[tuple[str, Refusal]]] = {}
    for version, one in sorted(routed.items()):
        for refusal in one.refusals:
            found.setdefault(refusal.index, []).append((version, refusal))
    at = {int(batch.offsets[index]): index for index in sorted(found)}
    fresh = dead_letters.new(db, box.pipeline, batch.topic, batch.partition, list(at))
    records = []
    for offset, index in at.items():
        if offset in fresh:
            _, first = found[index][0]
            versions = ",".join(version for version, _ in found[index])
            records.append(refused(batch, index, box.pipeline, first.reason, first.detail, versions))
    if records:
        seq = outbox.add(db, box.writer, box.shard, topic, seq, records)
        outboxes.move(db, box, seq)
    return seq
