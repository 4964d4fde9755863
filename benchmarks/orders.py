"""The orders that the benchmarks are made of: deterministic, columnar, with the exact sums to expect.

Event time advances by one minute per `PER_MINUTE` records of one partition, and the partitions stay in step: a batch of
100,000 records of one partition touches about 4,000 groups of (product, minute). Events are up to `DISORDER_MS` out of
order, which is less than the table's allowed lateness.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

PRODUCTS, CUSTOMERS = 1_000, 50_000
PER_MINUTE = 30_000
DISORDER_MS = 3_000
CHUNK = 100_000
SEED = 20_260_101
VERSION = 1  # of what is generated: another number makes every topic anew

_STATUSES = ("COMPLETED", "FAILED", "PENDING")
_MINUTE_MS = 60_000
_START_MS = int(np.datetime64("2026-01-01T00:01:00", "ms").astype(np.int64))  # disorder stays after `not_before`

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Chunk:
    """Consecutive orders: the columns of the schema; product number, minute since 1970 and cents of each."""

    batch: pa.RecordBatch
    product: Ints
    minute: Ints
    cents: Ints


def product_id(number: int) -> str:
    """The text of a product number."""
    return f"product-{number:04d}"


_PRODUCT_IDS = pa.array([product_id(number) for number in range(PRODUCTS)])
_CUSTOMER_IDS = pa.array([f"customer-{number:05d}" for number in range(CUSTOMERS)])


def chunks(records: int, partitions: int, schema: pa.Schema) -> Iterator[Chunk]:
    """All `records` orders of a topic with `partitions` partitions, in the order they are produced."""
    for start in range(0, records, CHUNK):
        yield _chunk(start, min(CHUNK, records - start), partitions, schema)


def _chunk(start: int, count: int, partitions: int, schema: pa.Schema) -> Chunk:
    random = np.random.default_rng((SEED, partitions, start))
    number = np.arange(start, start + count, dtype=np.int64)
    product = random.integers(0, PRODUCTS, count)
    customer = random.integers(0, CUSTOMERS, count)
    cents = random.integers(100, 50_000, count)
    millis = _START_MS + number * _MINUTE_MS // (PER_MINUTE * partitions) - random.integers(0, DISORDER_MS, count)
    columns = {
        "orderId": _fixed(np.char.add(b"o-", _digits(number, 10))),
        "customerId": _CUSTOMER_IDS.take(pa.array(customer)),
        "productId": _PRODUCT_IDS.take(pa.array(product)),
        "quantity": pa.array(random.integers(1, 6, count), pa.int32()),
        "orderAmount": pa.array(cents / 100),
        "orderTimestamp": _fixed(np.char.add(np.datetime_as_string(millis.astype("M8[ms]")).astype("S23"), b"Z")),
        "status": pa.array(_STATUSES).take(pa.array(random.choice(3, count, p=(0.9, 0.02, 0.08)))),
    }
    batch = pa.RecordBatch.from_arrays(
        [columns[name].cast(schema.field(name).type) for name in schema.names], schema=schema
    )
    return Chunk(batch, product, millis // _MINUTE_MS, cents)


def _digits(number: Ints, width: int) -> npt.NDArray[np.bytes_]:
    places = 10 ** np.arange(width - 1, -1, -1, dtype=np.int64)
    digits = (number[:, None] // places % 10 + ord("0")).astype(np.uint8)
    return np.ascontiguousarray(digits).view(f"S{width}").ravel()


def _fixed(texts: npt.NDArray[np.bytes_]) -> pa.Array:
    """ASCII texts of one length as an Arrow column, without a Python object per text."""
    width = texts.dtype.itemsize
    offsets = np.arange(len(texts) + 1, dtype=np.int32) * width
    return pa.StringArray.from_buffers(len(texts), pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(texts)))


class Expected:
    """Exact counts and sums per product and minute of the chunks given to `add`."""

    def __init__(self, records: int, partitions: int) -> None:
        self._first = (_START_MS - DISORDER_MS) // _MINUTE_MS
        minutes = records // (PER_MINUTE * partitions) + 3
        self._orders = np.zeros((minutes, PRODUCTS), np.int64)
        self._cents = np.zeros((minutes, PRODUCTS), np.int64)

    def add(self, chunk: Chunk) -> None:
        """Count a chunk."""
        group = (chunk.minute - self._first) * PRODUCTS + chunk.product
        size = self._orders.size
        self._orders += np.bincount(group, minlength=size).reshape(self._orders.shape)
        sums = np.bincount(group, chunk.cents, minlength=size)  # doubles, exact: far below 2**53
        self._cents += sums.astype(np.int64).reshape(self._cents.shape)

    def table(self) -> pa.Table:
        """One row per group: productId, minute (since 1970), orders, cents; sorted by product and minute."""
        minute, product = np.nonzero(self._orders)
        table = pa.table(
            {
                "productId": _PRODUCT_IDS.take(pa.array(product)),
                "minute": pa.array(minute + self._first),
                "orders": pa.array(self._orders[minute, product]),
                "cents": pa.array(self._cents[minute, product]),
            }
        )
        return table.sort_by([("productId", "ascending"), ("minute", "ascending")])
