"""`headrace worker stop`, `start` and `release`: the switch of a pipeline's workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cli.catalog import load
from cli.options import DURATION
from cli.output import cell, json_option, show_json

if TYPE_CHECKING:
    from cli.switching import Switched

_HOUR = 3600.0


@click.command("stop")
@click.argument("pipeline")
@click.option("--override", is_flag=True, help="Override the toggle in the ledger, also when Dagster is up.")
@click.option("--for", "duration", type=DURATION, help="How long an override holds, such as 2h; by default 1h.")
@click.option(
    "--timeout", default=60.0, show_default=True, type=click.FloatRange(0), help="Seconds to wait for the workers."
)
@json_option
def worker_stop(pipeline: str, override: bool, duration: float | None, timeout: float, as_json: bool) -> None:
    """Switch the workers of PIPELINE off and wait until they are gone.

    Flips the toggle of the pipeline's sensor in Dagster; with no Dagster up, writes an override that ends by itself. A
    worker finishes its batch, commits and gives its shards back.

    \b
    Examples:
      headrace worker stop orders
      headrace worker stop orders --override --for 2h
    """
    _switch(pipeline, False, override, duration, timeout, as_json)


@click.command("start")
@click.argument("pipeline")
@click.option("--override", is_flag=True, help="Override the toggle in the ledger, also when Dagster is up.")
@click.option("--for", "duration", type=DURATION, help="How long an override holds, such as 2h; by default 1h.")
@click.option(
    "--timeout", default=60.0, show_default=True, type=click.FloatRange(0), help="Seconds to wait for a worker."
)
@json_option
def worker_start(pipeline: str, override: bool, duration: float | None, timeout: float, as_json: bool) -> None:
    """Switch the workers of PIPELINE on and wait until one is up.

    Flips the toggle of the pipeline's sensor in Dagster; with no Dagster up, writes an override that ends by itself.

    \b
    Examples:
      headrace worker start orders
      headrace worker start orders --override --for "30 minutes"
    """
    _switch(pipeline, True, override, duration, timeout, as_json)


@click.command("release")
@click.argument("pipeline")
@json_option
def worker_release(pipeline: str, as_json: bool) -> None:
    """End an override of PIPELINE early: its toggle counts again.

    \b
    Examples:
      headrace worker release orders
    """
    from cli.ledger_access import writing
    from headrace.settings import settings
    from ledger import workers

    _check(pipeline)
    with writing(settings()) as db:
        before = workers.switch(db, pipeline)
        workers.override(db, pipeline, None)
    until = before.override_until if before else None
    toggle = "off" if before and not before.desired else "on"
    if as_json:
        show_json({"pipeline": pipeline, "ended": until, "on": toggle == "on"})
    elif until:
        click.echo(f"the override until {cell(until)} is over; the toggle says that {pipeline} is {toggle}")
    else:
        click.echo(f"there was no override; the toggle says that {pipeline} is {toggle}")


def _switch(pipeline: str, on: bool, override: bool, duration: float | None, timeout: float, as_json: bool) -> None:
    from cli import switching
    from cli.ledger_access import writing
    from headrace.errors import UsageError
    from headrace.settings import settings

    _check(pipeline)
    with writing(settings()) as db:
        webserver = None if override else switching.reachable(settings())
        if webserver and duration is not None:
            raise UsageError(
                f"--for is for overrides, but Dagster answers at {webserver.url}, whose toggle has no end; nothing was"
                " switched; leave --for out, or add --override"
            )
        if webserver:
            switched = switching.by_toggle(db, webserver, pipeline, on)
        else:
            switched = switching.by_override(db, pipeline, on, duration or _HOUR)
        for line in _said(switched, override):
            click.echo(line, err=as_json)
        found = switching.wait(db, switched, timeout, lambda text: click.echo(text, err=True), webserver)
    if as_json:
        show_json({**vars(switched), "workers": found})
    elif on:
        click.echo(f"{pipeline} is up: {', '.join(name for name, state in found.items() if state == 'running')}")
    else:
        click.echo(f"{pipeline} is drained; no worker is left")


def _said(switched: Switched, asked: bool) -> list[str]:
    to = "on" if switched.on else "off"
    if switched.by == "toggle":
        ended = [f"the override until {cell(switched.ended)} is over"] if switched.ended else []
        return [f"the toggle of {switched.pipeline} in Dagster at {switched.where} is {to}", *ended]
    why = "" if asked else "no Dagster webserver answers: "
    return [
        f"{why}an override switches {switched.pipeline} {to} until {cell(switched.until)};"
        f" `headrace worker release {switched.pipeline}` ends it"
    ]


def _check(pipeline: str) -> None:
    from headrace.errors import UsageError

    found = load()
    if pipeline not in found.pipelines:
        raise UsageError(f'no pipeline "{pipeline}"; there is: {", ".join(sorted(found.pipelines)) or "none"}')


COMMANDS: tuple[click.Command, ...] = (worker_stop, worker_start, worker_release)
