"""Alerts on transitions of a table's rows on their way to their topic, through an outbox of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from ledger import Connection, outbox, outboxes
from ledger.outbox import Record
from schemas.formats import encoder
from stream_workers.batch import Batch
from stream_workers.emit.encoding import array
from stream_workers.opening import Outbox
from stream_workers.refused import PAYLOAD_BYTES
from stream_workers.routing import Poison
from topology import duck
from topology.derived_compile import KEY
from topology.program import TableProgram, TransitionProgram


def send(
    db: Connection,
    box: Outbox,
    seq: int,
    program: TableProgram,
    batch: Batch,
    versions: pa.Table,
    before: Sequence[tuple[Any, ...]],
) -> int:
    """Put the alerts of a batch into the outbox, after number `seq`; the last number.

    versions: of the batch; before: the rows that the shard had of their keys, as `encoding.array` takes them. In the
    transaction of the merge, after `outboxes.lock`. Raises `Poison` where Kafka would not take an alert.
    """
    (found,) = (one for one in program.transitions if one.alert.name == box.outlet.name)
    prefix = f"{found.alert.name}:{batch.topic}:{batch.partition}:"
    records = _records(found, program.version_id, box.schema_id, _alerts(found, versions, before, prefix))
    if records:
        seq = outbox.add(db, box.claim.writer, box.claim.shard, box.outlet.topic, seq, records)
        outboxes.move(db, box.claim, seq)
    return seq


def _alerts(found: TransitionProgram, versions: pa.Table, before: Sequence[tuple[Any, ...]], prefix: str) -> pa.Table:
    columns = zip(*before, strict=True) if before else [()] * len(versions.schema)
    arrays = [array(values, field.type) for values, field in zip(columns, versions.schema, strict=True)]
    with duck.connect() as connection:
        connection.register("versions", versions)
        connection.register("before", pa.Table.from_arrays(arrays, schema=versions.schema))
        return connection.sql(found.alerts_sql, params={"prefix": prefix}).to_arrow_table()


def _records(found: TransitionProgram, version: str, schema_id: int, rows: pa.Table) -> list[Record]:
    if not rows.num_rows:
        return []
    alert, shape = found.alert, found.alert.shape
    columns = [rows.column(field.name).combine_chunks().cast(field.arrow) for field in shape.fields]
    frame = pa.RecordBatch.from_arrays(columns, schema=shape.arrow)
    values = encoder(alert.format).encode(shape, schema_id, frame).to_pylist()
    records = []
    for key, value in zip(rows.column(KEY).to_pylist(), values, strict=True):
        if len(key) + len(value) > PAYLOAD_BYTES:
            detail = f"{alert.name}: an alert has {len(value):,} bytes, and Kafka's records {PAYLOAD_BYTES:,}"
            raise Poison(version, "too_large", detail)
        records.append(Record(key.encode(), value))
    return records
