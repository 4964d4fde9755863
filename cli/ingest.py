"""`headrace ingest`: landing files into their topics, without Dagster."""

from __future__ import annotations

import click

from cli.output import json_option, show_json, show_table


@click.command()
@click.argument("source", required=False)
@click.option("--all", "everything", is_flag=True, help="Every source of files.")
@json_option
def ingest(source: str | None, everything: bool, as_json: bool) -> None:
    """Ingest landing files, each exactly once.

    Files that are in the log already are skipped, an interrupted one is resumed.

    \b
    Examples:
      headrace ingest orders_csv
      headrace ingest --all --json
    """
    from cli import own_services
    from cli.catalog import load
    from headrace import lean
    from headrace.errors import UsageError
    from headrace.settings import settings
    from ingestion.ingest import ingest as run

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


COMMANDS: tuple[click.Command, ...] = (ingest,)
