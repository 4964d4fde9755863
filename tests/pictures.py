"""Takes the pictures in `docs/images` anew, from a demo that is up: `make pictures` beside `make demo`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from cli import dagster_services
from stack import Home
from tests import chromium
from tests.chromium import Page

IMAGES = Path(__file__).parents[1] / "docs" / "images"
LARGEST = 150_000  # bytes of a picture
_LEFT = 240  # width of Dagster's own navigation, left out of every picture
_TABLE = "/assets/postgres/product_sales"
_LOADED = "!document.body.innerText.includes('Loading')"


def take(page: Page, url: str, folder: Path) -> None:
    """Write every picture into the folder."""

    def picture(name: str, width: int, height: int, top: int = 0) -> None:
        page.until(_LOADED)
        page.run("document.activeElement?.blur()")
        page.run("new Promise(done => setTimeout(done, 1500))")  # drawings move into place
        page.picture(folder / f"{name}.png", (_LEFT, top, width, height))
        print(f"{name}.png: {(folder / f'{name}.png').stat().st_size:,} bytes")

    page.resize(_LEFT + 1160, 900)
    page.open(f"{url}/assets/kafka/order-created-events?view=lineage", "product_sales", "Materialized", "3 / 3 Passed")
    picture("lineage", 1080, 500, top=285)

    page.resize(_LEFT + 1160, 1200)
    page.open(f"{url}{_TABLE}?view=overview", "only where", "orders_worker", "Passing")
    picture("overview", 1160, 935)

    page.resize(_LEFT + 1160, 900)
    page.open(f"{url}{_TABLE}?view=checks&checkDetail=accounting", "one fate each", "Passed")
    picture("checks", 1160, 770)

    days = "&default_range=[2026-01-01...2026-01-07]&partition=2026-01-02"
    page.open(f"{url}{_TABLE}?view=partitions{days}", "Materialized (3)", "table version")
    picture("partitions", 1160, 830)

    page.open(f"{url}/automation", "orders_worker", "recount_nightly")
    page.until("document.querySelectorAll('label[class*=formatSwitch] input:checked').length === 7")  # every toggle
    picture("automation", 1160, 610)
    page.open(f"{url}/locations/headrace/sensors/orders_worker", "fleet ticks", "0 runs requested")
    picture("switch", 1160, 700)


def main() -> int:
    """The exit code: 0 done, 1 when there is no demo or no browser, or a picture is too large for a page."""
    program, url = chromium.find(), dagster_services.url(Home())
    if not program or not url:
        print("pictures: needs `make demo`, up until now, and a chromium on the path or in CHROMIUM", file=sys.stderr)
        return 1
    with (
        tempfile.TemporaryDirectory(prefix="headrace-pictures-") as profile,
        chromium.page(program, Path(profile)) as page,
    ):
        take(page, url, IMAGES)
    large = [file.name for file in IMAGES.glob("*.png") if file.stat().st_size > LARGEST]
    if large:
        print(f"pictures: larger than {LARGEST:,} bytes: {', '.join(large)}; crop them", file=sys.stderr)
    return 1 if large else 0


if __name__ == "__main__":
    sys.exit(main())
