"""Rows as Postgres gives them -> the values of their topic's records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from schemas.codec import Encoder
from topology.emitted import EmittedTopic


def encoded(topic: EmittedTopic, schema_id: int, rows: Sequence[Sequence[Any]]) -> list[bytes]:
    """The framed values of rows of the topic's fields, in their order; see `array`."""
    if not rows:
        return []
    shape = topic.shape
    columns = zip(*rows, strict=True)
    arrays = [array(values, field.arrow) for values, field in zip(columns, shape.fields, strict=True)]
    frame = pa.RecordBatch.from_arrays(arrays, schema=shape.arrow)
    values: list[bytes] = Encoder().encode(shape, schema_id, frame).to_pylist()
    return values


def array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """A column of values as `topology.postgres.numbered` reads them."""
    if pa.types.is_timestamp(kind):
        return pa.array(values, pa.int64()).cast(kind)
    return pa.array(values, pa.int32()).cast(kind) if pa.types.is_date32(kind) else pa.array(values, kind)
