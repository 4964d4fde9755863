"""`headrace ingest`: landing files into their topics, without Dagster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cli.output import json_option, show_json, show_table

if TYPE_CHECKING:
    from headrace.settings import Settings


@click.command()
@click.argument("source", required=False)
@click.option("--all", "everything", is_flag=True, help="Every source of files.")
@click.option("--forget", metavar="TOPIC", help="Ingest nothing: forget which files went into this topic.")
@click.option("--yes", is_flag=True, help="Do not ask before forgetting.")
@json_option
def ingest(source: str | None, everything: bool, forget: str | None, yes: bool, as_json: bool) -> None:
    """Ingest landing files, each exactly once.

    Files that are in the log already are skipped, an interrupted one is resumed. After a topic was deleted, --forget
    lets its files be ingested again; records that are still in the topic stay there.

    \b
    Examples:
      headrace ingest orders_csv
      headrace ingest --all --json
      headrace ingest --forget order-created-events
    """
    from cli import own_services
    from cli.catalog import load
    from headrace import lean
    from headrace.errors import UsageError
    from headrace.settings import settings
    from ingestion.ingest import ingest as run

    if forget:
        if source or everything:
            raise UsageError("--forget TOPIC goes with neither a source nor --all; ingest afterwards")
        own_services.migrate_ledger(settings())
        _forget(forget, settings(), yes=yes, as_json=as_json)
        return
    lean.without_pandas()
    found = load()
    if bool(source) == everything:
        raise UsageError(f"name one source or --all; there is: {', '.join(sorted(found.sources))}")
    if source and source not in found.sources:
        raise UsageError(f'no source "{source}"; there is: {", ".join(sorted(found.sources))}')
    own_services.migrate_ledger(settings())
    report = run([found.sources[name] for name in ([source] if source else sorted(found.sources))], settings())
    if as_json:
        show_json(report)
        return
    show_table(
        "files",
        ["file", "rows", "produced", "rejected", "skipped", "seconds"],
        [(f.name, f.rows, f.produced, f.rejected, f.skipped, f.seconds) for f in report.files],
        empty="no landing files; `headrace generate` makes some",
    )


def _forget(topic: str, settings: Settings, *, yes: bool, as_json: bool) -> None:
    from ingestion.forget import forget, look

    known = look(topic, settings)
    if not yes:
        twice = f" {known.in_topic} of them went into the topic as it is now and would be in it twice."
        click.confirm(
            f"Forget that {known.files} files went into {topic}?{twice if known.in_topic else ''}", abort=True, err=True
        )
    forgotten = forget(topic, settings)
    if as_json:
        show_json({"topic": topic, "forgotten": forgotten})
    else:
        click.echo(
            f"forgot {forgotten} files of {topic}; `headrace ingest --all` ingests what is in the landing folder"
        )


COMMANDS: tuple[click.Command, ...] = (ingest,)
