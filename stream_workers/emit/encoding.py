"""Rows as Postgres gives them -> the values of their topic's records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from schemas.codec import Encoder
from topology.emitted import EmittedTopic


def encoded(topic: EmittedTopic, schema_id: int, rows: Sequence[Sequence[Any]]) -> list[bytes]:
    """The framed values of rows of the topic's fields, in their order; moments in microseconds since 1970."""
    if not rows:
        return []
    shape = topic.shape
    columns = zip(*rows, strict=True)
    arrays = [_array(values, field.arrow) for values, field in zip(columns, shape.fields, strict=True)]
    frame = pa.RecordBatch.from_arrays(arrays, schema=shape.arrow)
    values: list[bytes] = Encoder().encode(shape, schema_id, frame).to_pylist()
    return values


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    return pa.array(values, pa.int64()).cast(kind) if pa.types.is_timestamp(kind) else pa.array(values, kind)
