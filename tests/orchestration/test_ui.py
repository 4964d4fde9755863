"""What people see in Dagster's pages. Required when CI is set; elsewhere skipped where there is no chromium."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestration import toggles
from tests import chromium
from tests.chromium import Page
from tests.conftest import Services
from tests.orchestration.conftest import Dagster
from tests.orchestration.live import Live, dagster_over
from tests.stream_workers.conftest import rig, supervised
from tests.stream_workers.harness import Rig
from tests.stream_workers.supervised import Supervised

__all__ = ["rig", "supervised"]

_DAYS = """query { assetNodeOrError(assetKey: {path: ["postgres", "product_sales"]}) { ... on AssetNode {
  assetMaterializations { partition } } } }"""
_TOGGLE = "label[class*=formatSwitch] input"  # on the page of a sensor


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    program = chromium.find()
    if not program and os.environ.get("CI"):
        pytest.fail("CI is set and there is no chromium: install it (Debian: apt-get install chromium)")
    if not program:
        pytest.skip("no chromium on the path: install it or set CHROMIUM (Debian: apt-get install chromium)")
    with chromium.page(program, tmp_path / "chromium") as found:
        yield found


def test_the_graph_of_a_topic_is_drawn(dagster: Dagster, page: Page) -> None:
    names = ("orders_csv", "orders_json", "order-created-events", "customer_order_totals", "product_sales")
    groups = ("landing_files", "topics", "stream_tables")
    page.open(f"{dagster.webserver.url}/assets/kafka/order-created-events?view=lineage", *names, *groups)


def test_the_graph_that_the_webserver_knows(dagster: Dagster) -> None:
    edges = {
        ("/".join(up["path"]), "/".join(node["assetKey"]["path"]))
        for node in dagster.webserver.assets()
        for up in node["dependencyKeys"]
    }
    topic = "kafka/order-created-events"
    assert edges == {
        ("files/orders_csv", topic),
        ("files/orders_json", topic),
        (topic, "postgres/customer_order_totals"),
        (topic, "postgres/product_sales"),
    }
    executable = {"/".join(n["assetKey"]["path"]) for n in dagster.webserver.assets() if n["isExecutable"]}
    assert executable == {topic, "postgres/customer_order_totals", "postgres/product_sales"}


@pytest.fixture
def live(rig: Rig, stack: Services, supervised: Supervised, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    """Dagster over a pipeline whose worker has read to the end, and whose tables the fleet has reported."""
    rig.produce(7, 2_000, ["negative", "truncated"])
    supervised.start()
    with dagster_over(rig, stack, monkeypatch) as found:
        supervised.wait(rig.level)
        supervised.wait(lambda: days(rig) and reported(found) == days(rig))
        yield found


def test_pages_of_a_running_pipeline(live: Live, rig: Rig, supervised: Supervised, page: Page) -> None:
    url = live.webserver.url
    consumed = f"{rig.query('select sum(consumed) from ledger.positions')[0][0] // 2:,}"

    _graph(page, url, rig.topic)
    _overview(page, f"{url}/assets/postgres/product_sales?view=overview", rig)
    said = f"{consumed} records in {rig.partitions} partitions: one fate each, no offset left out"
    page.open(
        f"{url}/assets/postgres/product_sales?view=checks&checkDetail=accounting",
        said,
        "Passed",
        "blocking asset check",
    )
    page.open(f"{url}/assets/kafka/{rig.topic}?view=checks&checkDetail=workers", "on by its toggle; 1 running")
    _partitions(page, f"{url}/assets/postgres/product_sales?view=partitions", days(rig))
    _sensors(page, url, live)

    page.until(f"document.querySelector('{_TOGGLE}')?.checked")
    page.click(_TOGGLE)  # as a person does: the worker drains
    page.until(f"document.querySelector('{_TOGGLE}')?.checked === false")
    supervised.wait(lambda: live.flipped(False) and not supervised.workers())  # Dagster may have lost the click since
    toggle = toggles.find(live.webserver, "orders_worker")
    assert toggle is not None and not toggle.on


def _graph(page: Page, url: str, topic: str) -> None:
    drawn = page.open(f"{url}/assets/kafka/{topic}?view=lineage", topic, "stream_tables", "Materialized", "partitions")
    assert "customer_order_totals" in drawn and "product_sales" in drawn
    assert "Failed" not in drawn and "Stale" not in drawn and "Overdue" not in drawn


def _overview(page: Page, url: str, rig: Rig) -> None:
    page.open(
        url,
        "Latest materialization",
        max(days(rig)),
        "column lineage",
        f"made from {rig.topic}",
        "(counts records)",
        "sum(cast(orderAmount as decimal(18,2)))",
        "first moment of the 15 minutes that hold orderTimestamp",
        "records since last report",
        "on by its toggle",
        "orders_worker",  # the switch is named beside the table
        "Fails if more than 15 minutes since last materialization",  # its freshness policy
        "in editor",  # its code
    )


def _partitions(page: Page, url: str, materialized: set[str]) -> None:
    first = min(materialized)
    page.open(url, f"Materialized ({len(materialized)})", "Failed (0)")
    page.open(f"{url}&partition={first}", "records since last report", "product_sales@")
    assert first in page.text()


def _sensors(page: Page, url: str, live: Live) -> None:
    listed = page.open(f"{url}/automation", "fleet", "orders_worker")
    assert "quality_orders_hourly" in listed and "recount_nightly" in listed
    page.open(
        f"{url}/locations/{live.location.name}/sensors/orders_worker",
        "The switch of the stream workers that keep customer_order_totals, product_sales",
        "0 runs requested",
        "fleet ticks",
    )


def days(rig: Rig) -> set[str]:
    """Days in the table."""
    found = rig.query("select distinct (\"windowStart\" at time zone 'UTC')::date::text from product_sales")
    return {day for (day,) in found}


def reported(live: Live) -> set[str]:
    """Days that Dagster has materializations of."""
    found = live.webserver.query(_DAYS)["assetNodeOrError"]["assetMaterializations"]
    return {event["partition"] for event in found}
