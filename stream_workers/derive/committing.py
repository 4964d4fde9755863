"""A batch of derived topics: one Kafka transaction, then its mirror in the ledger.

1. Records, dead letters and positions with their counts go into Kafka, all or nothing.
2. Epoch, position, counts, dead letters and batch index go into the ledger, all or nothing.

What dies between the two is mirrored when the shard is opened again: the batch is then read and routed anew, which
gives the same counts and dead letters, and step 1 is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import replace
from itertools import groupby

import pyarrow as pa
import pyarrow.compute as pc

from headrace.errors import OffsetError
from headrace.failpoint import Failpoints
from headrace.transactions import Header
from ledger import Connection, dead_letters, made, transaction
from schemas.formats import encoder
from schemas.markers import END_OF_INPUT, EVENT_TIME_HEADER, MARKER_HEADER
from stream_workers.batch import Batch
from stream_workers.committing import letters, move_of
from stream_workers.derive.opening import DerivedShard, derived_of, positions_of
from stream_workers.derive.position import Made
from stream_workers.derive.producer import ShardProducer, TooLarge
from stream_workers.derive.steps import DeriveStep
from stream_workers.opening import TableState
from stream_workers.refused import refused
from stream_workers.routing import Poison, Routed
from topology.derived_compile import KEY, TIMESTAMP
from topology.program import TableProgram


class Committing:
    """Commits batches of `pipeline`. failed: the dead-letter topic. schema_ids: of its topics, by version id."""

    def __init__(
        self,
        pipeline: str,
        programs: Mapping[str, TableProgram],
        failed: str,
        schema_ids: Mapping[str, int],
        failpoints: Failpoints,
    ) -> None:
        self._pipeline, self._programs, self._failed = pipeline, programs, failed
        self._schema_ids, self._hit = schema_ids, failpoints.hit
        self._encoders = {version: encoder(derived_of(table).format) for version, table in programs.items()}

    def commit(
        self, db: Connection, batch: Batch, state: DerivedShard, routed: Mapping[str, Routed]
    ) -> dict[str, TableState]:
        """Both steps; returns the table states to adopt.

        Raises `Poison` for a record that Kafka does not take, `Fenced` when another worker owns the shard, and errors
        after which it is not known what was committed.
        """
        new = {version: found for version, found in routed.items() if _is_new(batch, state, version)}
        if new:
            self._produce(batch, state, new)
        return self._mirror(db, batch, state, routed, routed.keys() - new.keys())

    def _produce(self, batch: Batch, state: DerivedShard, routed: Mapping[str, Routed]) -> None:
        producer = state.producer
        assert producer is not None  # given when the shard was opened
        after = {version: state.made[version].after(batch, found) for version, found in routed.items()}
        producer.begin()
        try:
            self._hit(DeriveStep.BEGUN)
            for version, found in sorted(routed.items()):
                for rows in found.rows:
                    self._send(producer, version, rows, batch)
            self._hit(DeriveStep.PRODUCED)
            self._send_letters(producer, batch, routed)
            self._hit(DeriveStep.DEAD_LETTERED)
            producer.commit_positions(positions_of(self._programs, after))
            self._hit(DeriveStep.POSITIONED)
        except BaseException:
            producer.abort()
            raise
        producer.commit()
        state.made.update(after)
        self._hit(DeriveStep.COMMITTED)

    def send_corrected(
        self, state: DerivedShard, version: str, batch: Batch | None, routed: Routed | None, after: Made
    ) -> None:
        """What corrections make of their records, with the position after them; raises as `commit` does."""
        producer = state.producer
        assert producer is not None  # given when the shard was opened
        producer.begin()
        try:
            self._hit(DeriveStep.CORRECTIONS_BEGUN)
            if batch is not None and routed is not None:
                for rows in routed.rows:
                    self._send(producer, version, rows, batch)
            self._hit(DeriveStep.CORRECTIONS_PRODUCED)
            producer.commit_positions(positions_of(self._programs, {version: after}))
        except BaseException:
            producer.abort()
            raise
        producer.commit()
        state.made[version] = after
        self._hit(DeriveStep.CORRECTIONS_COMMITTED)

    def _send(self, producer: ShardProducer, version: str, rows: pa.Table, batch: Batch) -> None:
        derived = derived_of(self._programs[version])
        shape = derived.shape
        if derived.identity:
            rows = _identified(rows, derived.identity, f"{derived.name}:{batch.topic}:{batch.partition}:")
        columns = [rows.column(field.name).combine_chunks().cast(field.arrow) for field in shape.fields]
        frame = pa.RecordBatch.from_arrays(columns, schema=shape.arrow)
        values = self._encoders[version].encode(shape, self._schema_ids[version], frame).to_pylist()
        try:
            producer.send(derived.name, rows.column(KEY).to_pylist(), values, rows.column(TIMESTAMP).to_pylist())
        except TooLarge as error:
            raise Poison(version, "too_large", str(error)) from error

    def _send_letters(self, producer: ShardProducer, batch: Batch, routed: Mapping[str, Routed]) -> None:
        """One dead letter per record and reason, whatever the number of topics that refuse it for that."""
        found = sorted(
            (refusal.index, refusal.reason, refusal.detail, version)
            for version, one in routed.items()
            for refusal in one.refusals
        )
        for (index, reason, detail), same in groupby(found, key=lambda letter: letter[:3]):
            versions = ",".join(letter[3] for letter in same)
            letter = refused(batch, index, self._pipeline, reason, detail, versions)
            headers = [(name, value.encode("utf-8", "replace")) for name, value in letter.headers]
            producer.produce(self._failed, letter.key, letter.payload, headers)

    def _mirror(
        self, db: Connection, batch: Batch, state: DerivedShard, routed: Mapping[str, Routed], behind: Set[str]
    ) -> dict[str, TableState]:
        adopted: dict[str, TableState] = {}
        with db.transaction():
            self._hit(DeriveStep.MIRRORING)
            moves = {version: move_of(batch, state.tables[version], found) for version, found in sorted(routed.items())}
            for move in moves.values():
                transaction.advance(db, move)
            dead_letters.record(db, letters(batch, routed))
            for version, move in moves.items():
                table = state.tables[version]
                entry = transaction.index(db, move, (), table.index_entry)
                adopted[version] = replace(
                    table,
                    next_offset=batch.to_offset,
                    watermark=move.watermark,
                    ended=move.ended,
                    leader_epoch=batch.leader_epoch,
                    index_entry=entry,
                )
            for version in sorted(behind):
                self._check(db, batch, state, version)
        self._hit(DeriveStep.MIRRORED)
        return adopted

    def _check(self, db: Connection, batch: Batch, state: DerivedShard, version: str) -> None:
        """When the mirror is level with Kafka it has counted what Kafka's position says."""
        held = state.made[version]
        if batch.to_offset == held.next_offset:
            counted = [m.counts for m in made.mirrors(db, version) if m.partition == batch.partition]
            if counted != [held.counts]:
                raise OffsetError(
                    f"{version} from {batch.topic}[{batch.partition}]: up to offset {batch.to_offset} Kafka says"
                    f" {held.counts} (consumed, applied, filtered, dead-lettered, control, gaps), and reading again"
                    f" gives {counted}; nothing was written; bring back the version of Headrace that made the topic"
                )


def _identified(rows: pa.Table, column: str, prefix: str) -> pa.Table:
    """The rows with their offsets made the ids of the source's records."""
    at = rows.schema.get_field_index(column)
    ids = pc.binary_join_element_wise(pa.scalar(prefix), rows.column(at), "")
    return rows.set_column(at, column, ids)


def _is_new(batch: Batch, state: DerivedShard, version: str) -> bool:
    """Whether the batch lies beyond what Kafka has; `DerivedShard.edges` lets no batch lie on both sides."""
    return batch.from_offset >= state.made[version].next_offset


def marker_headers(event_time: int, name: str) -> list[Header]:
    """Headers of an end-of-input marker that is passed on."""
    return [(MARKER_HEADER, END_OF_INPUT), (EVENT_TIME_HEADER, b"%d" % event_time), ("file", name.encode())]
