"""`headrace lake`: archives and their files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cli.catalog import load
from cli.output import json_option, show_json, show_table

if TYPE_CHECKING:
    from topology.program import TableProgram


@click.group()
def lake() -> None:
    """Archives: what they hold, compacted and verified."""


def _chosen(name: str | None) -> list[TableProgram]:
    from headrace.errors import UsageError

    found = load().archives
    if name is not None and name not in found:
        raise UsageError(f'no archive "{name}"; there is: {", ".join(sorted(found)) or "none"}')
    return [found[name]] if name is not None else list(found.values())


@lake.command("list")
@click.argument("name", required=False)
@json_option
def lake_list(name: str | None, as_json: bool) -> None:
    """Show how many files, rows and bytes archives have, by day.

    \b
    Examples:
      headrace lake list
      headrace lake list orders_lake --json
    """
    from cli.ledger_access import writing
    from headrace.settings import settings
    from ledger import archive

    programs = _chosen(name)
    with writing(settings()) as db:
        days = [(program.name, day) for program in programs for day in archive.days(db, program.version_id)]
    if as_json:
        show_json([{"archive": name, **vars(day)} for name, day in days])
        return
    rows = [(name, day.date, day.files, day.rows, day.bytes) for name, day in days]
    show_table("archives", ["archive", "day", "files", "rows", "bytes"], rows, empty="no files yet")


@lake.command("compact")
@click.argument("name", required=False)
@json_option
def lake_compact(name: str | None, as_json: bool) -> None:
    """Make few files of the many of closed days; delete those replaced an hour ago, and what no manifest names.

    Dagster's schedule `lake_compaction_daily` does the same. Workers go on meanwhile.

    \b
    Examples:
      headrace lake compact
      headrace lake compact orders_lake --json
    """
    from cli.ledger_access import writing
    from headrace.settings import settings
    from stream_workers.archive.housekeeping import compact_all

    programs = _chosen(name)
    with writing(settings()) as db:
        done = compact_all(db, programs, settings())
    if as_json:
        show_json(done)
        return
    for archive, one in done.items():
        said = f"{one.made} files made of {one.replaced}, {one.deleted} deleted"
        click.echo(f"{archive}: {'another compaction is at it' if one.busy else said}")
    if not done:
        click.echo("archives: none")


@lake.command("verify")
@click.argument("name", required=False)
@click.option("--deep", is_flag=True, help="Read every file and compare it with its SHA-256.")
@json_option
def lake_verify(name: str | None, deep: bool, as_json: bool) -> None:
    """Compare files with the manifest, and the manifest with the position; exit code 1 when something is wrong.

    \b
    Examples:
      headrace lake verify
      headrace lake verify orders_lake --deep
    """
    from cli.ledger_access import writing
    from headrace.settings import settings
    from stream_workers.archive.housekeeping import verify_all

    programs = _chosen(name)
    with writing(settings()) as db:
        found = verify_all(db, programs, settings(), deep=deep)
    if as_json:
        show_json(found)
    else:
        for archive, one in found.items():
            aside = f", {one.elsewhere} of them at an earlier address" if one.elsewhere else ""
            stray = f"; {one.strays} files that no manifest names" if one.strays else ""
            click.echo(f"{archive}: {one.files} files{aside}, {one.rows} rows, {len(one.problems)} problems{stray}")
            for problem in one.problems:
                click.echo(f"  {problem}")
    if any(one.problems for one in found.values()):
        raise click.exceptions.Exit(1)


COMMANDS = (lake,)
