"""`headrace produce` and `headrace generate`: made-up orders, to the topic or as landing files."""

from __future__ import annotations

from pathlib import Path

import click

from cli.options import SHARE
from cli.output import json_option, show_json

_ORDERS = "order-created-events"


@click.group()
def produce() -> None:
    """Send made-up events to a topic."""


@produce.command("orders")
@click.option("--events", required=True, type=click.IntRange(1, 1_000_000_000), help="How many orders.")
@click.option("--rate", default=0.0, type=click.FloatRange(min=0), help="Orders per second; 0: as fast as it goes.")
@click.option("--bad", default="0%", type=SHARE, help="Share of orders with something wrong, such as 1%.")
@click.option("--seed", default=1, show_default=True, help="The same seed gives the same orders.")
@json_option
def produce_orders(events: int, rate: float, bad: float, seed: int, as_json: bool) -> None:
    """Send orders to order-created-events.

    \b
    Examples:
      headrace produce orders --events 10000 --rate 500 --bad 1%
    """
    from cli.catalog import load
    from cli.progress import ticking
    from headrace.errors import UsageError
    from headrace.settings import settings
    from ingestion.produce import produce as run

    topics = load().topics
    if _ORDERS not in topics:
        raise UsageError(f"no topic {_ORDERS} in this catalog; there is: {', '.join(sorted(topics)) or 'none'}")
    topic = topics[_ORDERS]
    with ticking(events) as tick:
        report = run(topic, settings(), events=events, rate=rate, bad=bad, seed=seed, progress=tick)
    if as_json:
        show_json(report)
    else:
        click.echo(str(report))


@click.command()
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder; by default the landing folder.")
@click.option(
    "--events", default=200_000, show_default=True, type=click.IntRange(1, 100_000_000), help="How many orders."
)
@click.option("--bad", default="1%", show_default=True, type=SHARE, help="Share of orders with something wrong.")
@click.option("--days", default=3, show_default=True, type=click.IntRange(1, 366), help="Days of event time.")
@click.option("--seed", default=1, show_default=True, help="The same seed gives the same files.")
@json_option
def generate(out: Path | None, events: int, bad: float, days: int, seed: int, as_json: bool) -> None:
    """Write landing files of orders, good and bad.

    CSV and JSON, and a manifest of what is in them.

    \b
    Examples:
      headrace generate --events 1000000 --days 7
      headrace generate --out other/landing --seed 7
    """
    from headrace.settings import settings
    from ingestion import generate as room

    manifest = room.generate(out or settings().landing, events=events, bad=bad, seed=seed, days=days)
    if as_json:
        show_json(manifest)
    else:
        click.echo(str(manifest))


COMMANDS: tuple[click.Command, ...] = (produce, generate)
