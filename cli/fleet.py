"""`headrace fleet`: the Dagster instance whose sensor toggles are the switches of the pipelines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cli.output import cell, json_option, show_json

if TYPE_CHECKING:
    from ledger.reports import FleetRow


def describe(fleet: FleetRow | None) -> str:
    """One line about the owner and its last tick."""
    if fleet is None:
        return "none yet; the first Dagster instance whose fleet sensor ticks owns the switches"
    return f"instance {fleet.instance}, last tick {fleet.silent_s:,.0f} s ago ({cell(fleet.ticked_at)})"


@click.group()
def fleet() -> None:
    """The Dagster instance that switches the pipelines."""


@fleet.command("show")
@json_option
def fleet_show(as_json: bool) -> None:
    """Show which Dagster instance owns the switches, and when its fleet sensor last ticked.

    \b
    Examples:
      headrace fleet show
    """
    from cli.ledger_access import reading
    from headrace.settings import settings
    from ledger import reports

    found = reports.fleet(reading(settings()))
    if as_json:
        show_json(found)
    else:
        click.echo(f"fleet: {describe(found)}")


@fleet.command("release")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def fleet_release(yes: bool, as_json: bool) -> None:
    """Forget which Dagster instance owns the switches: the next one whose fleet sensor ticks owns them.

    Its toggles then count, whatever the old owner's say. Workers and positions are not touched.

    \b
    Examples:
      headrace fleet release
      headrace fleet release --yes
    """
    from cli.ledger_access import reading, writing
    from headrace.settings import settings
    from ledger import fleet as owners
    from ledger import reports

    found = reports.fleet(reading(settings()))
    if found is not None and not yes:
        click.confirm(f"The fleet belongs to {describe(found)}. Release it?", abort=True, err=True)
    with writing(settings()) as db:
        was = owners.release(db)
    if as_json:
        show_json(was)
    elif was is None:
        click.echo("nobody owns the fleet; nothing was changed")
    else:
        click.echo(
            f"released; it belonged to instance {was.instance}, which last ticked {cell(was.ticked_at)};"
            " the next instance whose fleet sensor ticks owns it: `headrace fleet show`"
        )


COMMANDS: tuple[click.Command, ...] = (fleet,)
