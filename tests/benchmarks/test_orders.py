"""The made-up orders: the same every time, as dense as promised, and their sums are right."""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from benchmarks import orders
from schemas import load

SCHEMA = load("orders/order_created.avsc").arrow


def test_the_same_every_time() -> None:
    first, second = ([chunk.batch for chunk in orders.chunks(150_000, 4, SCHEMA)] for _ in range(2))
    assert [batch.num_rows for batch in first] == [100_000, 50_000]
    assert all(a.equals(b) for a, b in zip(first, second, strict=True))


def test_a_batch_of_one_partition_touches_about_4000_groups() -> None:
    for chunk in orders.chunks(500_000, 1, SCHEMA):
        groups = len(np.unique(chunk.minute * orders.PRODUCTS + chunk.product))
        assert 3_900 < groups < 5_000


def test_disorder_stays_below_the_allowed_lateness() -> None:
    from benchmarks.catalog.orders import product_minutes
    from topology.duration import micros

    batch = next(orders.chunks(100_000, 4, SCHEMA)).batch
    times = np.array([text.rstrip("Z") for text in batch.column("orderTimestamp").to_pylist()], "M8[us]").astype(
        np.int64
    )
    behind = (np.maximum.accumulate(times) - times).max()
    assert 0 < behind < micros(product_minutes.allowed_lateness)


@pytest.mark.parametrize("partitions", [1, 4])
def test_expected_sums_are_those_of_the_texts(partitions: int) -> None:
    expected, batches = orders.Expected(250_000, partitions), []
    for chunk in orders.chunks(250_000, partitions, SCHEMA):
        expected.add(chunk)
        batches.append(chunk.batch)
    events = pa.Table.from_batches(batches)  # found by name in the query
    with duckdb.connect() as db:
        found = db.sql(
            """
            SELECT "productId", epoch_us(cast(rtrim("orderTimestamp", 'Z') AS timestamp)) // 60000000 AS minute,
                count(*) AS orders,
                cast(sum(cast("orderAmount" AS decimal(18, 2))) * 100 AS bigint) AS cents
            FROM events GROUP BY ALL ORDER BY 1, 2
            """
        ).fetchall()
    assert events.num_rows == 250_000
    assert found == [tuple(row.values()) for row in expected.table().to_pylist()]
