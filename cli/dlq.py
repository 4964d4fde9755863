"""`headrace dlq`: records and lines that were not applied, with reason, bytes and coordinates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from cli.output import json_option, readable, show_json, show_table

if TYPE_CHECKING:
    from ledger.reports import DeadLetterRow


@click.group()
def dlq() -> None:
    """Dead letters: what was refused, why, where."""


@dlq.command("list")
@click.option("--reason", help="Only this reason, such as bad_time.")
@click.option("--table", help="Only dead letters of this table; `ingest`: lines refused at ingest.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 100_000), help="At most so many.")
@json_option
def dlq_list(reason: str | None, table: str | None, limit: int, as_json: bool) -> None:
    """List dead letters, newest first, after a count by reason.

    \b
    Examples:
      headrace dlq list
      headrace dlq list --reason unknown_schema_id --json
    """
    from cli.ledger_access import reading
    from headrace.settings import settings
    from ledger import reports

    engine = reading(settings())
    letters = reports.dead_letters(engine, reason=reason, table=table, limit=limit)
    by_reason = reports.dead_letters_by_reason(engine)
    rejected = reports.rejected_lines(engine)
    if as_json:
        show_json({"by_reason": by_reason, "rejected_lines": rejected, "dead_letters": letters})
        return
    show_table(
        "by reason",
        ["reason", "records", "where"],
        [(name, count, "topic") for name, count in sorted(by_reason.items())]
        + [(name, count, "landing file") for name, count in sorted(rejected.items())],
    )
    show_table(
        "dead letters",
        ["id", "reason", "refused by", "where", "recorded", "detail"],
        [
            (str(d.record_id), d.reason, d.table_version.split("@")[0], _place(d), d.recorded_at, d.detail[:80])
            for d in letters
        ],
    )


@dlq.command("show")
@click.argument("record_id", type=click.IntRange(min=1))
@json_option
def dlq_show(record_id: int, as_json: bool) -> None:
    """Show one dead letter in full.

    \b
    Examples:
      headrace dlq show 17
    """
    from cli.ledger_access import reading
    from headrace.errors import UsageError
    from headrace.settings import settings
    from ledger import reports

    letter = reports.dead_letter(reading(settings()), record_id)
    if letter is None:
        raise UsageError(f"no dead letter {record_id}; `headrace dlq list` shows their numbers")
    if as_json:
        show_json(letter)
        return
    for name, value in vars(letter).items():
        if isinstance(value, Mapping):
            for inner, text in value.items():
                click.echo(f"{name + ' ' + inner:<44} {text}")
        elif value is not None:
            click.echo(f"{name:<44} {readable(value, 2_000) if isinstance(value, bytes) else value}")


def _place(letter: DeadLetterRow) -> str:
    if letter.partition is not None:
        return f"{letter.topic}[{letter.partition}]@{letter.offset}"
    return f"{letter.file_name}:{letter.line}"


COMMANDS: tuple[click.Command, ...] = (dlq,)
