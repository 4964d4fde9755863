"""Ticks of the fleet on a real ledger and a real Dagster instance, with a clock that the test moves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from dagster import AssetCheckEvaluation, AssetMaterialization, materialize
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest
from dagster_postgres import PostgresEventLogStorage

from assets import catalog
from ledger import connect, fleet
from orchestration import definitions
from orchestration.flight import Flight
from orchestration.tick import EVENTS
from orchestration.watching import watch
from tests.conftest import Services
from tests.orchestration.ticking import MIDNIGHT, SALES, TOTALS, Line, dagster_instance, line


@pytest.fixture
def live(stack: Services, database: str, tmp_path: Path) -> Iterator[Line]:
    with (
        dagster_instance(stack, tmp_path) as dagster,
        line(database, dagster, MIDNIGHT - timedelta(minutes=20)) as found,
    ):
        yield found


def stale(live: Line) -> dict[str, StaleStatus]:
    """What the UI would say of the tables now."""
    graph = definitions.build(catalog.load("tests.catalogs")).get_repository_def().asset_graph
    resolver = CachingStaleStatusResolver(live.dagster, graph, LoadingContextForTest(live.dagster))
    found = {"customer_order_totals": resolver.get_status(TOTALS)}
    for day in live.dagster.get_materialized_partitions(SALES):
        found[f"product_sales {day}"] = resolver.get_status(SALES, day)
    return found


def stored(live: Line) -> tuple[int, int]:
    """Events in Dagster's storage, and bytes of their table with its indexes."""
    storage = live.dagster.event_log_storage
    assert isinstance(storage, PostgresEventLogStorage)
    with psycopg.connect(storage.postgres_url.replace("+psycopg2", "")) as db:
        row = db.execute("select count(*), pg_total_relation_size('event_logs') from event_logs").fetchone()
    assert row
    return int(row[0]), int(row[1])


def test_an_hour_of_ticks(live: Line) -> None:
    """720 ticks: load over midnight, quiet, a worker that goes and comes back. 20 minutes before midnight it begins."""
    live.start("w1")
    for number in range(720):
        minute = number / 12
        if minute < 35 and number % 3 == 0:  # all the time
            live.produce(25)
        if minute == 20:  # a run ingests files
            live.dagster.report_runless_asset_event(AssetMaterialization(live.topic))
        elif minute < 45 and number % 60 == 0:  # a little now and then
            live.produce(3)
        if minute == 50:
            live.stop()
        if minute == 55:
            live.start("w2")
        if live.running:
            live.consume(live.now - timedelta(seconds=2))
        done = live.tick()
        assert len(done.events) <= EVENTS, live.now

    days = {(MIDNIGHT - timedelta(days=1)).date().isoformat(), MIDNIGHT.date().isoformat()}
    assert live.days() == days == live.dagster.get_materialized_partitions(SALES)
    fresh = stale(live)
    assert fresh["customer_order_totals"] is fresh[f"product_sales {MIDNIGHT.date()}"] is StaleStatus.FRESH

    for key in (TOTALS, SALES):  # true as of now at any moment: never older than a third of `fresh_within`, 15 minutes
        at = [when for when, done in live.history for e in done.events if getattr(e, "asset_key", None) == key]
        gaps = [(b - a).total_seconds() for a, b in zip(at, [*at[1:], live.now], strict=True)]
        assert max(gaps) <= 305, key
    kinds = Counter(type(event).__name__ for event in live.events())
    reports = len(live.observed())
    assert 12 <= reports <= 12 + 4, "one in five minutes, and one each for start, stop, start and the first rows"
    assert kinds["AssetMaterialization"] <= reports * 3  # totals, one or two days
    assert kinds["AssetCheckEvaluation"] <= 2 * 10 + 10  # once, hourly, and what changed
    events, size = stored(live)
    assert events == kinds.total() + 1
    assert size < 500_000 + events * 4_000, "an event is a kilobyte or two with its indexes, not a dump"
    red = [e for e in live.events() if isinstance(e, AssetCheckEvaluation) and not e.passed]
    assert [e.check_name for e in red] == ["workers"], "switched on, and no worker from minute 50 to 55"
    assert "no worker runs" in str(red[0].description)
    assert [e.passed for e in live.evaluations("workers")][-1]


def test_nothing_to_say_is_no_event(live: Line) -> None:
    live.start("w1")
    live.produce(10)
    live.consume(live.now)
    live.tick()
    for _ in range(20):
        live.tick()
    before = len(live.events())
    for _ in range(30):
        live.tick()
    assert len(live.events()) == before


def test_a_day_ahead_of_the_clock_waits_until_it_begins(live: Line) -> None:
    live.start("w1")
    live.produce(10)
    live.consume(MIDNIGHT + timedelta(minutes=10))  # within `max_ahead`; the clock is at 20 minutes before midnight
    live.tick(20)
    tomorrow = MIDNIGHT.date().isoformat()
    assert live.days() == {tomorrow}
    assert live.materialized(TOTALS) and not live.materialized(SALES)
    live.tick(25 * 60)
    assert [e.partition for e in live.materialized(SALES)] == [tomorrow]


def test_many_days_are_spread_over_ticks(live: Line) -> None:
    live.start("w1")
    for day in range(70):
        live.produce(2)
        live.consume(MIDNIGHT - timedelta(days=1 + day))
    for _ in range(8):
        assert len(live.tick(15).events) <= EVENTS
    assert len(live.days()) == 70
    assert live.days() == live.dagster.get_materialized_partitions(SALES)
    assert len(live.observed()) <= 3


def test_metadata_of_a_report(live: Line) -> None:
    live.start("w1")
    live.produce(50)
    live.consume(live.now)
    live.tick(20)
    (event,) = live.materialized(SALES)
    values = {name: getattr(value, "value", value) for name, value in event.metadata.items()}
    assert values["offsets"] == {str(partition): "0-50" for partition in range(4)}
    assert values["records since last report"] == 200
    assert (values["lag records"], values["lag seconds"]) == (0, 0.0)
    assert values["switch"] == "on by its toggle"
    live.produce(1)
    live.consume(live.now)
    live.tick(300)
    assert [e.metadata["records since last report"].value for e in live.materialized(TOTALS)] == [200, 4]


def test_toggle_is_copied_and_override_wins(live: Line) -> None:
    desired = "select desired from ledger.pipelines"
    live.on = False
    live.tick()
    assert live.db.execute(desired).fetchall() == [("off",)]
    live.on = True
    assert "all pipelines on" in live.tick().says
    assert live.db.execute(desired).fetchall() == [("on",)]
    live.db.execute(
        "update ledger.pipelines set override = 'off', override_until = %s", (live.now + timedelta(hours=1),)
    )
    assert "off: orders" in live.tick().says
    assert live.db.execute(desired).fetchall() == [("on",)]


def test_a_daemon_that_died_after_the_events_reports_them_again(live: Line) -> None:
    live.start("w1")
    live.produce(10)
    live.consume(live.now)
    before = live.cursor
    live.tick(20)
    reported = [e.partition for e in live.materialized(SALES)]
    live.cursor = before
    live.tick()
    assert [e.partition for e in live.materialized(SALES)] == reported * 2
    assert live.days() == live.dagster.get_materialized_partitions(SALES)


def test_another_instance_does_nothing_until_the_fleet_is_released(live: Line, database: str) -> None:
    live.tick()
    other = Flight(live.catalog.pipelines, "instance-2", "other", lambda _db: live.now)
    done = other.tick(lambda: {"orders": False}, None)
    assert (list(done.events), done.cursor) == ([], None)
    assert "belong to the Dagster instance instance" in done.says and "`headrace fleet release`" in done.says
    assert "\n" not in done.says
    assert live.db.execute("select desired from ledger.pipelines").fetchall() == [("on",)]
    with connect(database) as db:
        owner = fleet.release(db)
    assert owner is not None and owner.instance == "instance-1"
    assert "off: orders" in other.tick(lambda: {"orders": False}, None).says
    assert "belong to" in live.tick().says


def test_a_switch_of_another_instance_says_that_it_moves_nothing(live: Line) -> None:
    live.tick()
    own, other = (watch(live.program, None, name) for name in ("instance-1", "instance-2"))
    assert "belong to" not in own.says and "`headrace fleet release`" in other.says
    (event,) = other.events
    assert isinstance(event, AssetCheckEvaluation) and event.check_name == "fleet" and not event.passed


def test_a_tick_that_fails_is_no_tick(live: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    live.tick()
    (before,) = live.db.execute("select ticked_at from ledger.fleet").fetchall()
    monkeypatch.setattr("orchestration.flight.Tick.run", lambda _self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        live.tick()
    assert live.db.execute("select ticked_at from ledger.fleet").fetchall() == [before]
    assert live.db.execute("select * from ledger.leases").fetchall() == []


def test_two_daemons_of_one_instance_do_not_tick_at_once(live: Line) -> None:
    live.tick()
    live.db.execute("insert into ledger.leases values ('fleet', 'somebody', clock_timestamp() + interval '30 seconds')")
    done = live.tick()
    assert "another tick" in done.says and not done.events
    live.db.execute("delete from ledger.leases")
    assert "all pipelines on" in live.tick().says


def test_without_postgres_a_tick_says_so(live: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_POSTGRES_URL", "postgresql://nobody:secret@127.0.0.1:9/none")
    done = live.flight.tick(lambda: {"orders": True}, "kept")
    assert done.cursor == "kept" and not done.events
    assert "nothing was switched" in done.says and "secret" not in done.says and "\n" not in done.says
    monkeypatch.delenv("HEADRACE_POSTGRES_URL")
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "nothing"))
    for ticked in (live.flight.tick(lambda: {"orders": True}, "kept"), watch(live.program, "kept", "instance-1")):
        assert ticked.cursor == "kept" and not ticked.events
        assert "no Postgres address: run `headrace up`" in ticked.says


def test_a_table_cannot_be_materialized_and_nothing_changes(live: Line) -> None:
    live.start("w1")
    live.produce(10)
    live.consume(live.now)
    before = live.db.execute("select * from ledger.positions order by 1, 2").fetchall()
    defs = definitions.build(catalog.load("tests.catalogs"))
    assets = [defs.get_assets_def(TOTALS), defs.get_assets_def(live.topic)]
    run = materialize(assets, instance=live.dagster, selection=[TOTALS], raise_on_error=False)
    assert not run.success
    (failure,) = [e for e in run.all_events if e.is_step_failure]
    error = failure.step_failure_data.user_failure_data
    assert error is not None and error.description is not None
    assert "nothing was changed" in error.description and "`headrace pipeline rebuild orders`" in error.description
    assert "\n" not in error.description
    assert live.db.execute("select * from ledger.positions order by 1, 2").fetchall() == before
    assert not [e for e in run.all_events if e.is_step_materialization]
