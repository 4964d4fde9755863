"""`headrace dlq replay --reason late | duplicate`: records that a table left out, read again from the topic.

Asked for in transactions of a thousand or so, each once: a command that was interrupted is typed again, and asks for
the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from cli.dlq.left_out import Found, Wanted, find, leave_out, lost, parts
from cli.output import show_json, show_table

if TYPE_CHECKING:
    from headrace.settings import Settings
    from ledger import Connection
    from ledger.left_out import Place
    from ledger.letters import Letter
    from stream_workers.log import LogAdmin

_FEW = 20  # refused records that are shown


def replay(
    wanted: Wanted, said: tuple[str, str], wait: float | None, *, dry_run: bool, yes: bool, as_json: bool
) -> None:
    """Replay what a table left out. said: by whom, and the note; wait: at most so many seconds for the workers."""
    from cli.dlq import waiting
    from cli.ledger_access import writing
    from headrace.settings import settings
    from stream_workers.log import LogAdmin

    with writing(settings()) as db:
        kafka = LogAdmin(settings())
        found = find(db, kafka, wanted, settings())
        if not found.records or dry_run:
            _tell(wanted, found, as_json)
            return
        if not yes:
            _say_gone(wanted, found, err=True)
            click.confirm(f"Replay {_counted(wanted, found)}?", abort=True, err=True)
        ids = _ask(db, kafka, wanted, found, said, settings())
        if wait is None:
            _report(wanted, found, len(ids), None, as_json)
            for line in waiting.idle(db, _letters(db, found.at, ids[:1])):  # all are of one pipeline
                click.echo(line, err=True)
            return
        outcome = waiting.wait(db, _letters(db, found.at, ids), wait)
        _report(wanted, found, len(ids), outcome, as_json)
        if outcome.late:
            waiting.complain(db, outcome, wait)
        if outcome.refused:
            raise click.exceptions.Exit(1)


def _ask(
    db: Connection, kafka: LogAdmin, wanted: Wanted, found: Found, said: tuple[str, str], settings: Settings
) -> list[int]:
    """Write the entries; the dead letters that they are about."""
    from cli.progress import ticking
    from headrace.errors import RetentionPassed
    from ledger import left_out

    ids: list[int] = []
    seen = 0
    with ticking(found.records) as done:
        for partition, offsets in sorted(found.offsets.items()):
            for part in parts(kafka, found.at, partition, offsets, settings):
                if part.missing:
                    found.gone.setdefault(partition, []).extend(part.missing)
                if part.missing and not wanted.without_gone:
                    raise RetentionPassed(
                        f"{lost(wanted, found)}; {len(ids):,} were asked for before that; `--without-gone` replays"
                        " those that the log still has"
                    )
                if part.records:
                    made = left_out.ask(db, found.at, wanted.reason, partition, part.records, *said)
                    ids += [record_id for record_id, _ in made]
                seen += len(part.records) + len(part.missing)
                done(seen)
    leave_out(found, found.gone)
    return ids


def _letters(db: Connection, at: Place, ids: Sequence[int]) -> list[Letter]:
    from ledger import letters

    found = letters.find(db, letters.Choice(ids=ids)) if ids else []
    return [letter for letter in found if letter.table_version == at.table_version]


def _tell(wanted: Wanted, found: Found, as_json: bool) -> None:
    """What would be done, where nothing is."""
    if as_json:
        by_partition = {partition: len(offsets) for partition, offsets in sorted(found.offsets.items())}
        show_json(
            {
                "would": "replay",
                "reason": wanted.reason,
                "table": found.at.table,
                "records": found.records,
                "by_partition": by_partition,
                "decided": found.decided,
                "gone": found.gone,
            }
        )
        return
    _say_gone(wanted, found)
    if found.records:
        click.echo(f"would replay {_counted(wanted, found)}; nothing was done")
        return
    others = ", ".join(f"{name} {count:,}" for name, count in sorted(found.decided.items()))
    click.echo(f"no {wanted.reason} record of {found.at.table} is to be replayed ({others or 'it left out none'})")


def _report(wanted: Wanted, found: Found, asked: int, outcome: Any, as_json: bool) -> None:
    if as_json:
        show_json(
            {
                "asked": asked,
                "gone": found.gone,
                "decided_meanwhile": found.records - asked,
                "outcomes": outcome.counts if outcome else None,
                "refused": outcome.refused if outcome else None,
            }
        )
        return
    _say_gone(wanted, found)
    if outcome is None:
        click.echo(
            f"asked to replay {asked:,} {wanted.reason} records of {found.at.table}; workers decide it between two"
            " batches: `headrace dlq list`"
        )
        return
    click.echo(", ".join(f"{name} {count:,}" for name, count in outcome.counts.items()))
    if outcome.refused:
        show_table(
            "refused again",
            ["id", "table", "why"],
            [(str(letter.record_id), letter.table, letter.refusal) for letter in outcome.refused[:_FEW]],
        )


def _say_gone(wanted: Wanted, found: Found, *, err: bool = False) -> None:
    if found.gone:
        click.echo(f"left out: {lost(wanted, found)}", err=err)


def _counted(wanted: Wanted, found: Found) -> str:
    places = ", ".join(f"{found.at.topic}[{p}] {len(offsets):,}" for p, offsets in sorted(found.offsets.items()))
    return f"{found.records:,} {wanted.reason} record{'s' if found.records > 1 else ''} of {found.at.table} ({places})"
