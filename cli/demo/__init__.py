"""`headrace demo`: the whole way once, on real services, with every number checked at the end."""

from __future__ import annotations

from pathlib import Path

import click

from cli.options import SHARE


@click.command()
@click.option("--exit", "leave", is_flag=True, help="End after the summary; exit code 0 only when every check holds.")
@click.option(
    "--report", type=click.Path(path_type=Path, dir_okay=False), help="Write the report as JSON to this file."
)
@click.option(
    "--events", default=200_000, show_default=True, type=click.IntRange(100, 100_000_000), help="Orders to make."
)
@click.option("--days", default=3, show_default=True, type=click.IntRange(1, 90), help="Days of event time.")
@click.option("--bad", default="1%", show_default=True, type=SHARE, help="Share of orders with something wrong.")
@click.option("--seed", default=1, show_default=True, help="The same seed makes the same orders.")
def demo(leave: bool, report: Path | None, events: int, days: int, bad: float, seed: int) -> int:
    """Everything once, on real services, and checked.

    Files -> Kafka -> exactly-once workers -> Postgres tables, with Dagster beside it; then a summary.
    Starts what is not running, makes landing files unless there are some, ingests them by a Dagster run, waits until
    the workers are level and compares everything with an independent recomputation. Stays up until Ctrl-C. The data
    stays: a second run ingests nothing twice.

    \b
    Examples:
      headrace demo
      headrace demo --exit --report demo.json
      make demo ARGS="--exit --report demo.json"
    """
    from cli.demo.run import Options, run

    return run(Options(leave=leave, report=report, events=events, days=days, bad=bad, seed=seed))


COMMANDS: tuple[click.Command, ...] = (demo,)
