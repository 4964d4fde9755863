"""What happens between two ticks of the fleet: declarations, builds, cursors and clocks change under it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ledger import table_versions
from orchestration import tables
from stream_workers.versions import register
from tests.conftest import Services
from tests.orchestration.ticking import MIDNIGHT, SALES, TOTALS, Line, dagster_instance, line
from topology import Aggregate, Tumbling


@pytest.fixture
def live(stack: Services, database: str, tmp_path: Path) -> Iterator[Line]:
    """Twenty minutes before midnight; a worker runs and has consumed some orders of today."""
    begin = MIDNIGHT - timedelta(minutes=20)
    with dagster_instance(stack, tmp_path) as dagster, line(database, dagster, begin) as found:
        found.start("w1")
        found.produce(10)
        found.consume(found.now)
        yield found


def test_a_day_ahead_of_the_clock_is_no_news_while_it_waits(live: Line) -> None:
    live.tick(20)
    live.produce(10)
    live.consume(MIDNIGHT + timedelta(minutes=10))
    before = len(live.events())
    for _ in range(4):
        live.tick(60)
    assert len(live.events()) == before
    live.tick(60)  # five minutes since the last report
    assert [e.metadata["records since last report"].value for e in live.materialized(TOTALS)] == [40, 40]
    reports = len(live.observed())
    for _ in range(40):
        live.tick(15)
    assert len(live.observed()) == reports + 2, "ten minutes of heartbeats, and no more"


def test_a_table_that_is_declared_no_more_troubles_nobody(live: Line) -> None:
    live.tick(20)
    before = len(live.events())
    totals = next(table for table in live.program.tables if table.name == "customer_order_totals")
    live.declare(replace(live.program, tables=(totals,)))
    live.stop()
    live.start("w2")
    for _ in range(36):
        live.produce(1)
        live.consume(live.now)
        live.tick(5)
    assert [type(e).__name__ for e in live.events()[before:]] == ["AssetObservation", "AssetMaterialization"]
    assert len(live.materialized(TOTALS)) == 2 and len(live.materialized(SALES)) == 1
    assert all(e.passed for e in live.evaluations("workers")), "nobody moves the positions of the other one"


def test_tables_that_are_built_anew_are_reported_anew(live: Line) -> None:
    for day in (3, 2, 1):
        live.produce(10)
        live.consume(MIDNIGHT - timedelta(days=day))
    live.tick(20)
    first = live.days()
    assert live.dagster.get_materialized_partitions(SALES) == first

    with live.db.transaction():  # `headrace pipeline rebuild` of a topic that was made again, between two ticks
        table_versions.drop(live.db, "orders")
        register(live.db, live.program)
    live.ends = dict.fromkeys(live.ends, 0)
    live.start("w1")
    for day in (6, 5, 4, 1, 1, 1):  # further than before
        live.produce(10)
        live.consume(MIDNIGHT - timedelta(days=day))
    live.tick(20)
    live.tick()
    assert len(live.days()) == 4 and live.days() - first
    assert live.dagster.get_materialized_partitions(SALES) == first | live.days()
    assert [e.metadata["records since last report"].value for e in live.materialized(TOTALS)] == [160, 240]
    live.produce(10)
    live.consume(live.now)
    live.tick(300)
    assert live.materialized(TOTALS)[-1].metadata["records since last report"].value == 40


@pytest.mark.parametrize("cursor", [None, "", "{", "[]", '{"tables": {}}', '{"tables": {"t": 1}}'])
def test_a_cursor_that_is_lost_or_broken_reports_everything_anew(live: Line, cursor: str | None) -> None:
    live.produce(10)
    live.consume(MIDNIGHT - timedelta(days=1))
    live.tick(20)
    reported = [e.partition for e in live.materialized(SALES)]
    live.cursor = cursor
    live.tick()
    assert [e.partition for e in live.materialized(SALES)] == reported * 2
    assert live.cursor != cursor


def test_a_report_over_many_ticks_names_each_day_once_though_rows_go_on_changing(live: Line) -> None:
    for day in range(50):
        live.produce(1)
        live.consume(MIDNIGHT - timedelta(days=1 + day))
    for day in range(10):
        live.produce(1)
        live.consume(MIDNIGHT - timedelta(days=1 + day))
        live.tick(5)
    partitions = [e.partition for e in live.materialized(SALES)]
    assert len(partitions) == len(set(partitions)) == 50
    assert len(live.materialized(TOTALS)) == len(live.observed()) == 1
    assert {e.metadata["records since last report"].value for e in live.materialized(SALES)} == {244}
    live.tick(300)
    again = [e.partition for e in live.materialized(SALES)][50:]
    assert again and set(again) < set(partitions), "those that changed after they were named"


def test_a_clock_that_is_set_back_stops_no_reports(live: Line) -> None:
    live.now += timedelta(days=300)
    live.tick()
    live.now -= timedelta(days=300)
    live.produce(10)
    live.consume(live.now)
    live.tick()
    live.tick()
    assert live.materialized(TOTALS)[-1].metadata["records since last report"].value == 40
    assert len(live.evaluations("volume")) == 2 * len(live.program.tables), "so do volumes, told again after an hour"


def test_days_begin_with_the_window_that_holds_not_before(live: Line) -> None:
    sales = next(table for table in live.program.tables if table.windowed)
    of = sales.table
    assert isinstance(of, Aggregate)
    assert str(tables.first_day(sales)) == "2026-01-01"
    for hours, first in ((24, "2026-01-01"), (11, "2025-12-31"), (120, "2025-12-28")):
        window = replace(sales, table=replace(of, window=Tumbling(f"{hours} hours")))
        days = tables.days(window)
        assert days is not None and days.get_first_partition_key() == first, hours
