"""The lineage page as a browser shows it. Required when CI is set; elsewhere skipped where there is no chromium."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.orchestration.conftest import Dagster

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1900,1000",
    "--virtual-time-budget=30000",
    "--dump-dom",
)


@pytest.fixture
def browser() -> str:
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if found:
        return found
    if os.environ.get("CI"):
        pytest.fail("CI is set and there is no chromium: install it (Debian: apt-get install chromium)")
    pytest.skip("no chromium on the path: install it or set CHROMIUM (Debian: apt-get install chromium)")


def page(browser: str, url: str, profile: Path) -> str:
    command = [browser, *FLAGS, f"--user-data-dir={profile}", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_graph_of_a_topic_is_drawn(dagster: Dagster, browser: str, tmp_path: Path) -> None:
    url = f"{dagster.webserver.url}/assets/kafka/order-created-events?view=lineage"
    for attempt in range(3):  # the budget of virtual time is short for a busy machine
        drawn = page(browser, url, tmp_path / str(attempt))
        if "product_sales" in drawn:
            break
    for name in ("orders_csv", "orders_json", "order-created-events", "customer_order_totals", "product_sales"):
        assert name in drawn
    for group in ("landing_files", "topics", "stream_tables"):
        assert group in drawn


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
    assert executable == {topic}
