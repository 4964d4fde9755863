"""`headrace validate` and `headrace provision`: declarations, and what they need in Kafka and the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cli.output import json_option, show_json, show_table

if TYPE_CHECKING:
    from assets.catalog import Catalog


def load() -> Catalog:
    """The catalog that HEADRACE_CATALOG names, also found in the current folder; raises `DeclarationError`."""
    from assets import catalog
    from headrace.settings import settings

    return catalog.load(settings().catalog)


@click.command()
@json_option
def validate(as_json: bool) -> None:
    """Check every declaration; needs no service.

    \b
    Examples:
      headrace validate
      HEADRACE_CATALOG=my_package headrace validate --json
    """
    from topology import Archive, Derived

    found = load()
    if as_json:
        show_json(
            {
                "topics": sorted(found.topics),
                "sources": sorted(found.sources),
                "tables": {name: program.version_id for name, program in sorted(found.tables.items())},
                "emitted": {name: topic.table for name, topic in sorted(found.emitted.items())},
                "archives": {name: program.version_id for name, program in sorted(found.archives.items())},
                "views": {name: view.table for name, view in sorted(found.views.items())},
                "joins": {name: [t.name for t in join.tables] for name, join in sorted(found.joins.items())},
                "pipelines": {name: [t.name for t in p.tables] for name, p in sorted(found.pipelines.items())},
            }
        )
        return
    show_table(
        "topics",
        ["topic", "schema", "key", "partitions", "pipeline"],
        [(t.name, t.shape_name, t.key, t.partitions, t.pipeline_name) for t in found.topics.values()],
    )
    show_table(
        "derived topics",
        ["topic", "from", "key", "only where", "made by"],
        [(t.name, t.source.name, t.key, t.where, t.maker) for t in found.topics.values() if isinstance(t, Derived)],
    )
    show_table(
        "landing files",
        ["source", "files", "format", "topic"],
        [(s.name, s.path, s.format, s.topic.name) for s in found.sources.values()],
    )
    show_table(
        "tables",
        ["table", "version", "from", "grouped by", "window"],
        [
            (
                p.name,
                p.version,
                p.table.source.name,
                ", ".join(p.table.by),
                str(p.table.window) if p.table.window else None,
            )
            for p in found.tables.values()
        ],
    )
    if found.emitted:
        show_table(
            "emitted rows",
            ["topic", "of table", "key", "partitions", "sent when"],
            [(t.name, t.table, t.key, t.partitions, t.emitted_when) for t in found.emitted.values()],
        )
    lakes = [program.table for program in found.archives.values() if isinstance(program.table, Archive)]
    if lakes:
        show_table(
            "archives",
            ["archive", "from", "at", "a file after", "made by"],
            [(a.name, a.source.name, a.at, f"{a.roll_size} or {a.roll_after}", a.maker) for a in lakes],
        )
    show_table("views", ["view", "of table"], [(v.name, v.table) for v in found.views.values()])
    if found.joins:
        show_table(
            "joins",
            ["join", "of tables", "kind"],
            [(j.name, ", ".join(t.name for t in j.tables), ", ".join(j.join.kinds)) for j in found.joins.values()],
        )
    click.echo(
        f"valid: {len(found.topics)} topics, {len(found.sources)} sources of files, {len(found.tables)} tables, "
        f"{len(found.views)} views, {len(found.joins)} joins, {len(found.pipelines)} pipelines"
    )


@click.command()
@json_option
def provision(as_json: bool) -> None:
    """Migrate the ledger, register schemas, create topics.

    What differs from the declaration is shown, never altered.

    \b
    Examples:
      headrace provision
    """
    from cli.own_services import provision as run
    from headrace.settings import settings

    report = run(settings(), load())
    if as_json:
        show_json(report)
        return
    show_table("topics", ["topic", "state", "schema id"], [(t.name, t.state, t.schema_id) for t in report.topics])
    for line in report.drift:
        click.echo(f"differs: {line}")


COMMANDS: tuple[click.Command, ...] = (validate, provision)
