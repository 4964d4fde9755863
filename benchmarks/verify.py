"""Is the result right? A fast wrong table is worth nothing: every run is compared with the exact sums."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from headrace.errors import Terminal
from headrace.settings import settings
from ledger import Connection
from ledger.reports import accounting, engine
from schemas.codec import Decoder
from schemas.registry import Registry
from topology import Topic

_GROUP = ("productId", "minute")


class WrongResult(Terminal):
    """A benchmark's result is not the exact one."""


def table(db: Connection, view: str, expected: pa.Table) -> None:
    """Hold the view against the exact sums."""
    query = (
        'copy (select "productId", (extract(epoch from "windowStart") / 60)::bigint, orders,'
        f' ("salesAmount" * 100)::bigint from public."{view}") to stdout (format csv)'
    )
    with db.cursor().copy(query.encode()) as copy:
        text = b"".join(bytes(block) for block in copy)
    names = expected.schema.names
    found = arrow_csv.read_csv(
        io.BytesIO(text),
        read_options=arrow_csv.ReadOptions(column_names=names),
        convert_options=arrow_csv.ConvertOptions(column_types=expected.schema),
    )
    same(view, found, expected)


def same(what: str, found: pa.Table, expected: pa.Table, group: Sequence[str] = _GROUP) -> None:
    """Raise `WrongResult` unless the groups and their sums are the same; expected: sorted by the columns of `group`."""
    found = found.sort_by([(name, "ascending") for name in group])
    if found.equals(expected):
        return
    totals = [f"{t.num_rows:,} rows, {pc.sum(t['orders']).as_py() or 0:,} orders" for t in (found, expected)]
    raise WrongResult(f"{what} is wrong: it has {totals[0]}; right are {totals[1]}; this is a bug, please report it")


def identities(url: str, topic: str, records: int) -> None:
    """Both identities of every partition, and every record applied."""
    db = engine(url)
    try:
        entries = [entry for entry in accounting(db) if entry.topic == topic]
    finally:
        db.dispose()
    broken = [entry for entry in entries if not entry.holds]
    if broken:
        raise WrongResult(f"the accounting identities do not hold: {broken[0]}")
    consumed, applied = sum(entry.consumed for entry in entries), sum(entry.applied for entry in entries)
    if (consumed, applied) != (records, records):
        raise WrongResult(f"{topic} holds {records:,} records; consumed are {consumed:,} and applied {applied:,}")


def log(topic: Topic, expected: pa.Table) -> None:
    """Read the whole topic (read_committed) and hold its records against the exact sums."""
    sums: list[pa.Table] = []
    for frame, _, _ in records(topic):
        sums.append(_sums(frame))
    grouped = pa.concat_tables(sums).group_by(list(_GROUP)).aggregate([("orders", "sum"), ("cents", "sum")])
    found = grouped.select([*_GROUP, "orders_sum", "cents_sum"]).rename_columns(expected.schema.names)
    same(topic.name, found, expected)


def records(topic: Topic) -> Iterator[tuple[pa.RecordBatch, int, pa.Array]]:
    """The whole topic (read_committed): decoded records of one partition, the partition and their offsets."""
    registry = Registry(settings().need_registry(), settings().registry_config)
    decoder = Decoder(topic.shape, registry.schema)
    for messages in _messages(topic):
        by_partition: dict[int, list[Message]] = {}
        for message in messages:
            by_partition.setdefault(message.partition() or 0, []).append(message)
        for partition, part in by_partition.items():
            decoded = decoder.decode([message.value() for message in part])
            if decoded.failures:
                raise WrongResult(f"{topic.name} holds a record that cannot be read: {decoded.failures[0]}")
            yield decoded.frame, partition, pa.array([message.offset() for message in part])


def _messages(topic: Topic) -> Iterator[list[Message]]:
    options = {"group_id": "headrace-bench-recount", "enable_auto_commit": False, "isolation_level": "read_committed"}
    consumer = Consumer(settings().kafka(**options, enable_partition_eof=True, auto_offset_reset="error"))
    consumer.assign([TopicPartition(topic.name, partition, 0) for partition in range(topic.partitions)])
    unread = set(range(topic.partitions))
    try:
        while unread:
            messages = consumer.consume(100_000, 1.0)
            for message in messages:
                error = message.error()
                if error is not None and error.code() == KafkaError._PARTITION_EOF:
                    unread.discard(message.partition())
                elif error is not None:
                    raise WrongResult(f"{topic.name} cannot be read to its end: {error.str()}")
            found = [m for m in messages if m.error() is None and m.value() is not None]
            if found:
                yield found
    finally:
        consumer.close()


def _sums(frame: pa.RecordBatch) -> pa.Table:
    text = pc.utf8_slice_codeunits(frame.column("orderTimestamp"), 0, 16)  # to the minute, in UTC
    minutes = pc.strptime(text, format="%Y-%m-%dT%H:%M", unit="s").cast(pa.int64()).to_numpy() // 60
    cents = np.rint(frame.column("orderAmount").to_numpy() * 100).astype(np.int64)
    rows = pa.table({"productId": frame.column("productId"), "minute": pa.array(minutes), "cents": pa.array(cents)})
    grouped = rows.group_by(list(_GROUP)).aggregate([("cents", "count"), ("cents", "sum")])
    return grouped.select([*_GROUP, "cents_count", "cents_sum"]).rename_columns([*_GROUP, "orders", "cents"])
