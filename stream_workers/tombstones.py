"""Records without value, for tables in which they delete a row: which do, and when.

They have no event time of their own; they stand at the watermark of their partition before them, so that what they
delete is a function of the log. Before the first valid record of a partition there is nothing to delete.
"""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa

from stream_workers import fates
from stream_workers.batch import Batch, Offsets
from topology.program import TableProgram


def without_value(batch: Batch) -> list[int]:
    """Indices of the records that have no value and are no end-of-input markers; a correction deletes nothing."""
    if batch.corrected:
        return []
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
    before = _before(connection, batch, watermark)[index] if index.size else index
    connection.register(
        "nulls",
        pa.table(
            {
                "_i": index,
                "_offset": batch.offsets[index],
                "_key": pa.array([batch.envelope(int(i)).key for i in index], pa.binary()),
                "_event_time": pa.array(before, mask=before == fates.NEVER),
            }
        ),
    )
    return dict(connection.execute(table.nulls_sql).fetchall()) if index.size else {}


def _before(connection: duckdb.DuckDBPyConnection, batch: Batch, watermark: int | None) -> Offsets:
    """The watermark before each record of the batch."""
    seen = connection.sql("SELECT _i, event_time FROM routed WHERE topic_reason IS NULL").fetchnumpy()
    return fates.watermarks(batch, watermark, np.asarray(seen["_i"]), np.asarray(seen["event_time"]))
