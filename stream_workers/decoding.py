"""Payloads to columns: markers set aside, undecodable records named, the rest an Arrow table in offset order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa

from schemas.codec import Failure
from schemas.formats import Decodes
from stream_workers.batch import Batch


def decoding(decoder: Decodes) -> Callable[[Batch], Batch]:
    """The step that fills `frame` and `failures` of a batch."""

    def decode(batch: Batch) -> Batch:
        payloads = batch.payloads
        kept: np.ndarray[tuple[int], np.dtype[np.int64]] | None = None
        if batch.markers:
            control = {marker.index for marker in batch.markers}
            kept = np.array([i for i in range(batch.records) if i not in control], dtype=np.int64)
            payloads = [payloads[i] for i in kept]
        decoded = decoder.decode(payloads)
        rows = np.arange(len(payloads), dtype=np.int64) if decoded.rows is None else decoded.rows
        failures = decoded.failures
        if kept is not None:
            rows = kept[rows]
            failures = [Failure(int(kept[f.index]), f.reason, f.detail) for f in failures]
        own = [pa.array(rows), pa.array(batch.timestamps[rows]), pa.array(batch.offsets[rows])]
        columns, names = [*decoded.frame.columns, *own], [*decoded.frame.schema.names, "_i", "_ts", "_offset"]
        return replace(batch, frame=pa.RecordBatch.from_arrays(columns, names=names), failures=tuple(failures))

    return decode
