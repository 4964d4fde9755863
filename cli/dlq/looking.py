"""`headrace dlq list` and `show`: records and lines that were not applied, with reason, bytes and coordinates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from cli.dlq.choosing import choice, filters
from cli.output import json_option, readable, show_json, show_table


@click.command("list")
@filters(["open", "waiting", "refused", "replayed", "dropped"])
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 100_000), help="At most so many.")
@json_option
def dlq_list(limit: int, as_json: bool, **given: Any) -> None:
    """List dead letters, newest first, after a count of all by reason, and of late and duplicate records by table.

    A dead letter is open until someone decides on it; waiting: its worker has not decided a replay yet; refused: it was
    replayed and is as bad as before; replayed: it is in the table; dropped: someone has seen it and lets it be.

    \b
    Examples:
      headrace dlq list
      headrace dlq list --reason unknown_schema_id --json
      headrace dlq list --table product_sales --since 2h --state open
    """
    from cli.ledger_access import writing
    from headrace.settings import settings
    from ledger import left_out, letters

    wanted = choice(given)
    with writing(settings()) as db:
        counts, found, skipped = letters.counted(db), letters.find(db, wanted, limit), left_out.counted(db)
    if as_json:
        show_json(
            {
                "by_reason": {c.reason: c.records for c in counts if not c.line},
                "rejected_lines": {c.reason: c.records for c in counts if c.line},
                "counts": counts,
                "left_out": [{**vars(one), "open": one.open} for one in skipped],
                "dead_letters": found,
            }
        )
        return
    show_table(
        "by reason",
        ["reason", "records", "open", "replayed", "dropped", "where"],
        [
            (c.reason, c.records, c.open, c.replayed, c.dropped, "landing file" if c.line else "topic")
            for c in sorted(counts, key=lambda count: (count.line, count.reason))
        ],
    )
    if skipped:
        show_table(
            "left out",
            ["reason", "table", "records", "open", "replayed", "dropped"],
            [(one.reason, one.table, one.records, one.open, one.replayed, one.dropped) for one in skipped],
        )
    show_table(
        "dead letters",
        ["id", "state", "reason", "refused by", "where", "recorded", "detail"],
        [
            (str(d.record_id), d.standing, d.reason, d.table, d.place, d.recorded_at, (d.refusal or d.detail)[:80])
            for d in found
        ],
    )


@click.command("show")
@click.argument("record_id", type=click.IntRange(min=1))
@click.option("--record", is_flag=True, help="Print the record alone, as JSON to edit; for `headrace dlq replay`.")
@json_option
def dlq_show(record_id: int, record: bool, as_json: bool) -> None:
    """Show one dead letter in full: the record, why each table refused it, and what was decided.

    \b
    Examples:
      headrace dlq show 17
      headrace dlq show 17 --record > order.json
    """
    from cli.ledger_access import reading, writing
    from headrace.errors import UsageError
    from headrace.settings import settings
    from ledger import letters, reports

    letter = reports.dead_letter(reading(settings()), record_id)
    if letter is None:
        raise UsageError(f"no dead letter {record_id}; `headrace dlq list` shows their numbers")
    if record:
        from cli.dlq.records import text_of

        if letter.partition is None:
            raise UsageError(f"dead letter {record_id} is a line of a file: correct the file and run `headrace ingest`")
        click.echo(text_of(record_id, letter.topic, letter.payload, settings()))
        return
    with writing(settings()) as db:
        stands = letters.find(db, letters.Choice(ids=[record_id]))
    if as_json:
        show_json({**vars(letter), "decided": stands})
        return
    for name, value in vars(letter).items():
        if isinstance(value, Mapping):
            for inner, text in value.items():
                click.echo(f"{name + ' ' + inner:<44} {text}")
        elif value is not None:
            click.echo(f"{name:<44} {readable(value, 2_000) if isinstance(value, bytes) else value}")
    show_table(
        "decided",
        ["table", "state", "by", "at", "note", "refused because"],
        [(d.table, d.standing, d.said_by, d.said_at, d.note or None, d.refusal) for d in stands],
    )
