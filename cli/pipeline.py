"""`headrace pipeline`: what a person decides when log and ledger disagree, or a declaration changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cli.catalog import load
from cli.output import json_option, show_json

if TYPE_CHECKING:
    from topology.program import PipelineProgram


@click.group()
def pipeline() -> None:
    """Build the tables of a pipeline anew, or go on from what the ledger holds."""


def _find(name: str) -> PipelineProgram:
    from headrace.errors import UsageError

    found = load()
    if name not in found.pipelines:
        raise UsageError(f'no pipeline "{name}"; there is: {", ".join(sorted(found.pipelines)) or "none"}')
    return found.pipelines[name]


@pipeline.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def rebuild(name: str, yes: bool, as_json: bool) -> None:
    """Forget rows and positions of the pipeline's tables and read its topic again from the first kept record.

    Running workers are fenced by it and begin anew. The views are gone until a worker has made them again. Of derived
    topics the ledger's counts are made again; records go into a topic again only when it was deleted and provisioned.
    Files of archives stay where they are and are listed no more.

    \b
    Examples:
      headrace pipeline rebuild orders
      headrace pipeline rebuild orders --yes --json
    """
    from headrace.settings import settings
    from stream_workers import remedy

    program = _find(name)
    tables = ", ".join(table.name for table in program.tables)
    if not yes and program.derives:
        click.confirm(f"Forget what the ledger counted of {tables}, and count {program.topic.name} again?", abort=True)
    elif not yes and program.archives:
        click.confirm(
            f"Forget which files {tables} has (they stay where they are), and archive {program.topic.name} anew from"
            " the first record that Kafka still keeps?",
            abort=True,
        )
    elif not yes:
        click.confirm(f"Drop the rows of {tables} and build them anew from {program.topic.name}?", abort=True)
    dropped = remedy.rebuild(program, settings())
    if as_json:
        show_json({"pipeline": name, "dropped": dropped})
    else:
        click.echo(f"dropped {', '.join(dropped) or 'nothing'}; a worker builds them anew: `headrace status`")


@pipeline.command()
@click.argument("name")
@json_option
def accept(name: str, as_json: bool) -> None:
    """Go on from the ledger's positions: Postgres was restored, or Kafka forgot how far derived topics were made.

    Rows and positions are of one transaction, so nothing is counted twice or left out. Final rows and dead letters may
    go to their topics a second time.

    \b
    Examples:
      headrace pipeline accept orders
    """
    from headrace.settings import settings
    from stream_workers import remedy
    from stream_workers.derive import remedy as derived
    from stream_workers.emit import remedy as emitted

    program = _find(name)
    at = derived.accept(program, settings()) if program.derives else remedy.accept(program, settings())
    emitted.accept(program, settings())
    if as_json:
        show_json({"pipeline": name, "offsets": at})
    else:
        places = ", ".join(f"{partition}@{offset}" for partition, offset in at.items())
        click.echo(f"{name} goes on from {places or 'the first kept records'}")


COMMANDS = (pipeline,)
