"""Tables of every kind of window in the graph: partitions, columns, and where failing rows come from."""

from __future__ import annotations

from typing import Any

import pytest
from dagster import AssetKey, DailyPartitionsDefinition

from assets import catalog as declared
from ledger import Connection, connect
from ledger.reports import engine
from orchestration import quality_rows, tables
from orchestration.definitions import build
from tests.operators.bench import Bench
from tests.topology.declare import ORDER


@pytest.fixture(scope="module")
def catalog() -> declared.Catalog:
    return declared.load("tests.catalogs_windows")


def sent(catalog: declared.Catalog, db: Connection, *orders: tuple[int, str, dict[str, Any]]) -> None:
    """The orders consumed by the catalog's worker, each batch alone: partition, time and what else is special."""
    pipeline = catalog.pipelines["orders-in-windows"]
    bench = Bench(db, pipeline.topic, [table.table for table in pipeline.tables])
    for partition, at, changes in orders:
        bench.send(partition, {**ORDER, "orderTimestamp": at, **changes})
        bench.advance(partition, bench.end(partition))


@pytest.mark.parametrize(
    ("table", "first"), [("per_minute", "2025-12-31"), ("per_day", "2025-12-31"), ("visits", "2026-01-01")]
)
def test_partitions_begin_with_the_first_window(catalog: declared.Catalog, table: str, first: str) -> None:
    node = build(catalog).resolve_asset_graph().get(AssetKey(["postgres", table]))
    days = node.partitions_def
    assert isinstance(days, DailyPartitionsDefinition)
    assert days.get_first_partition_key() == first


def test_a_failing_window_names_the_batches_of_its_panes(catalog: declared.Catalog, database: str) -> None:
    ledger = engine(database)
    with connect(database) as db:
        sent(
            catalog,
            db,
            (0, "2026-01-10T00:01:00Z", {}),
            (0, "2026-01-10T00:30:00Z", {}),
            (0, "2026-01-10T00:05:00Z", {}),
        )
        few, once = catalog.expectations["per_minute"]
        count, rows = quality_rows.failing(db, ledger, catalog.tables["per_minute"], few)
        starts = [row.key["windowStart"].isoformat() for row in rows]
        assert count == 2
        assert starts == ["2026-01-09T23:56:00+00:00", "2026-01-10T00:00:00+00:00"]
        assert [list(row.origins) for row in rows] == [[0], [0]]
        assert all(line for row in rows for line in row.origins[0])
        assert quality_rows.failing(db, ledger, catalog.tables["per_minute"], once) == (0, [])
        # the same pane written by another shard: a key that is stored twice
        state = catalog.tables["per_minute"].state_table
        db.execute(f'insert into {state} select "customerId", window_start, gen, 1, orders from {state}'.encode())
        count, rows = quality_rows.failing(db, ledger, catalog.tables["per_minute"], once)
        assert count == 6
        assert [row.key["windowStart"].minute for row in rows] == [0, 0, 4, 4, 30, 30]
        assert [list(row.origins) for row in rows] == [[0], [1]] * 3
        assert all(row.origins[0] for row in rows if 0 in row.origins)
    ledger.dispose()


def test_a_failing_session_names_the_batches_of_its_records(catalog: declared.Catalog, database: str) -> None:
    ledger = engine(database)
    with connect(database) as db:
        times = ("00:00", "00:50", "02:00", "00:25", "23:50")  # the fourth joins the first two
        sent(catalog, db, *((0, f"2026-01-10T{at}:00Z", {}) for at in times))
        few, once = catalog.expectations["visits"]
        count, (row,) = quality_rows.failing(db, ledger, catalog.tables["visits"], few)
        assert (count, row.key["windowStart"].isoformat()) == (1, "2026-01-10T00:00:00+00:00")
        assert row.values["orders"] == 3
        assert list(row.origins) == [0]
        assert row.origins[0]
        assert quality_rows.failing(db, ledger, catalog.tables["visits"], once) == (0, [])
    ledger.dispose()


def test_windows_are_described(catalog: declared.Catalog) -> None:
    columns = {name: tables.described(catalog.tables[name]) for name in ("per_minute", "visits", "by_threes")}
    assert columns["per_minute"]["windowEnd"].startswith("windowStart + 10 minutes")
    assert columns["visits"]["windowEnd"].startswith("orderTimestamp of the last one + 30 minutes")
    assert columns["by_threes"]["windowNumber"].startswith("0 for the first 3 records")


def test_a_derived_column_is_described_has_an_origin_and_can_be_expected_of(
    catalog: declared.Catalog, database: str
) -> None:
    program = catalog.tables["per_day"]
    assert tables.described(program)["perCustomer"] == "orders / customers"
    assert tables.described(program)["customers"] == "count(distinct customerId)"
    assert program.lineage["perCustomer"] == program.lineage["customers"] == ("customerId",)
    ledger = engine(database)
    with connect(database) as db:
        sent(catalog, db, *((0, "2026-01-10T00:00:00Z", {"customerId": who}) for who in ("a", "a", "b", "b")))
        (once,) = catalog.expectations["per_day"]
        count, (row,) = quality_rows.failing(db, ledger, program, once)
        assert (count, row.values["perCustomer"], list(row.origins)) == (1, 2, [0])
    ledger.dispose()


def test_windows_of_records_have_no_partitions_and_name_their_batches(catalog: declared.Catalog, database: str) -> None:
    assert tables.days(catalog.tables["by_threes"]) is None
    ledger = engine(database)
    with connect(database) as db:
        sent(catalog, db, *((0, "2026-01-10T00:00:00Z", {}) for _ in range(5)))
        few, once = catalog.expectations["by_threes"]
        count, (row,) = quality_rows.failing(db, ledger, catalog.tables["by_threes"], few)
        assert (count, row.key["windowNumber"], row.values["windowRecords"]) == (1, 0, 3)
        assert list(row.origins) == [0]
        assert quality_rows.failing(db, ledger, catalog.tables["by_threes"], once) == (0, [])
    ledger.dispose()
