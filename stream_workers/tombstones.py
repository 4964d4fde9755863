"""Records without value, for tables in which they delete a row: which do, and when.

They have no event time of their own; they stand at the watermark of their partition before them, so that what they
delete is a function of the log. Before the first valid record of a partition there is nothing to delete.
"""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa

from stream_workers.batch import Batch, Offsets
from topology.program import TableProgram

_NEVER = np.iinfo(np.int64).min


def without_value(batch: Batch) -> list[int]:
    """Indices of the records that have no value and are no end-of-input markers."""
    return [failure.index for failure in batch.failures if batch.payloads[failure.index] is None]


def take(
    connection: duckdb.DuckDBPyConnection, table: TableProgram, batch: Batch, watermark: int | None
) -> dict[int, str | None]:
    """Register `nulls` for the table's SQL; why each of its records deletes nothing, None where it does, by index.

    watermark: of the table before the batch, whose `routed` has been made. Empty for tables without deletions.
    """
    if table.nulls_sql is None:
        return {}
    index = np.array(without_value(batch), np.int64)
    before = _watermarks(connection, batch, watermark)[index] if index.size else index
    connection.register(
        "nulls",
        pa.table(
            {
                "_i": index,
                "_offset": batch.offsets[index],
                "_key": pa.array([batch.envelope(int(i)).key for i in index], pa.binary()),
                "_event_time": pa.array(before, mask=before == _NEVER),
            }
        ),
    )
    return dict(connection.execute(table.nulls_sql).fetchall()) if index.size else {}


def _watermarks(connection: duckdb.DuckDBPyConnection, batch: Batch, watermark: int | None) -> Offsets:
    """The watermark before each record of the batch: of valid records and markers at strictly earlier offsets."""
    seen = connection.sql("SELECT _i, event_time FROM routed WHERE topic_reason IS NULL").fetchnumpy()
    times = np.full(batch.records + 1, _NEVER, np.int64)
    times[0] = _NEVER if watermark is None else watermark
    times[np.asarray(seen["_i"]) + 1] = np.asarray(seen["event_time"])
    for marker in batch.markers:
        if marker.event_time is not None:
            times[marker.index + 1] = marker.event_time
    before: Offsets = np.maximum.accumulate(times)[:-1]
    return before
