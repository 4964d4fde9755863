"""`headrace dlq replay` and `drop`: decisions about many dead letters in one command, each asked for once.

Asked for in transactions of a thousand: a command that was interrupted is typed again, and finds what it had asked for.
"""

from __future__ import annotations

import getpass
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.dlq import left_out, rereading
from cli.dlq.choosing import Action, Chosen, choose, filters
from cli.output import json_option, show_json, show_table

if TYPE_CHECKING:
    from ledger import Connection
    from ledger.letters import Letter

_AT_ONCE = 1_000
_FEW = 20  # refused records that are shown

_FILE = click.Path(exists=True, dir_okay=False, allow_dash=True)
_IDS = click.argument("record_ids", metavar="[RECORD_ID]...", nargs=-1, type=click.IntRange(min=1))
_NOTE = click.option("--note", default="", help="Why, for those who look later.")
_DRY = click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
_YES = click.option("--yes", is_flag=True, help="Do not ask.")


@click.command("replay")
@_IDS
@filters(["open", "refused", "dropped"])
@click.option("--edit", metavar="FILE", type=_FILE, help="One record, with the values of this JSON file; - for stdin.")
@click.option("--payload", metavar="FILE", type=_FILE, help="One record, with the bytes of this file; - for stdin.")
@click.option("--wait", is_flag=True, help="Wait until the workers have decided, and say what became of each.")
@click.option(
    "--timeout", default=60.0, show_default=True, type=click.FloatRange(0), help="Seconds to wait with --wait."
)
@click.option("--without-gone", is_flag=True, help="Late or duplicate: leave out what the log does not have any more.")
@_NOTE
@_DRY
@_YES
@json_option
def dlq_replay(
    record_ids: tuple[int, ...],
    edit: str | None,
    payload: str | None,
    wait: bool,
    timeout: float,
    without_gone: bool,
    note: str,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Replay dead letters, as they are or edited, each once; a closed window is corrected too.

    Name them by their numbers, or by filters, which mean those that are open or were refused again. The worker that
    owns the record's partition decides between two batches. Also takes back a drop. With --wait, exit code 1 when one
    is refused again or still waits.

    Late and duplicate records are read again from the topic: --table says for which table, --since and --until when
    they were written to Kafka. Nothing is replayed when the log does not have all of them any more.

    \b
    Examples:
      headrace dlq replay 17 --wait
      headrace dlq show 17 --record > order.json; headrace dlq replay 17 --edit order.json --wait
      headrace dlq replay --reason unknown_schema_id --table product_sales --since 2h --dry-run
      headrace dlq replay --reason late --table product_sales --partition 2 --wait
    """
    from cli.dlq import waiting
    from cli.dlq.records import edited
    from cli.ledger_access import writing
    from headrace.settings import settings

    source = edit or payload
    if source and (len(record_ids) != 1 or (edit and payload)):
        raise click.UsageError("--edit or --payload is about one record: give one number and one file")
    if source == "-" and not (yes or dry_run):
        raise click.UsageError("with the record on standard input there is nobody to ask: add --yes")
    if not record_ids and left_out.meant(given):
        wanted = left_out.Wanted(**{name: given[name] for name in left_out.NAMES}, without_gone=without_gone)
        rereading.replay(wanted, (_user(), note), timeout if wait else None, dry_run=dry_run, yes=yes, as_json=as_json)
        return
    with writing(settings()) as db:
        chosen = choose(db, "replay", record_ids, given)
        bytes_of = None
        if source and chosen.ready:
            text = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
            bytes_of = text if payload else edited(chosen.ready[0].topic, text, source, settings())
        if not _agreed(chosen, "replay", dry_run, yes, as_json):
            return
        asked = _ask(db, "replay", chosen.ready, bytes_of, note)
        if wait:
            outcome = waiting.wait(db, asked, timeout)
            _report(chosen, asked, as_json, outcome)
            if outcome.late:
                waiting.complain(db, outcome, timeout)
            if outcome.refused:
                raise click.exceptions.Exit(1)
            return
        _report(chosen, asked, as_json)
        for line in waiting.idle(db, asked):
            click.echo(line, err=True)


@click.command("drop")
@_IDS
@filters(["open", "refused"])
@_NOTE
@_DRY
@_YES
@json_option
def dlq_drop(record_ids: tuple[int, ...], note: str, dry_run: bool, yes: bool, as_json: bool, **given: Any) -> None:
    """Mark dead letters as dropped: seen, and left out of their tables for good.

    The mark is there at once and changes no row. `headrace dlq replay` takes it back.

    \b
    Examples:
      headrace dlq drop 17 18 --note "a test order"
      headrace dlq drop --table ingest --until 2026-03-01 --yes
    """
    from cli.ledger_access import writing
    from headrace.settings import settings

    with writing(settings()) as db:
        chosen = choose(db, "drop", record_ids, given)
        if not _agreed(chosen, "drop", dry_run, yes, as_json):
            return
        asked = _ask(db, "drop", chosen.ready, None, note)
    if as_json:
        show_json({"dropped": len(asked), "left": _left(chosen), "decided_meanwhile": len(chosen.ready) - len(asked)})
        return
    _say_left(chosen)
    click.echo(f"dropped {_counted(asked)}; `headrace dlq replay` takes it back")


def _agreed(chosen: Chosen, action: Action, dry_run: bool, yes: bool, as_json: bool) -> bool:
    """Whether to go on; `UsageError` when there are only dead letters that nothing can be done with."""
    from headrace.errors import UsageError

    if not chosen.ready:
        if chosen.left:
            raise UsageError("; ".join(chosen.causes()) + "; nothing was done")
        _tell(chosen, action, as_json, f"no dead letter to {action} fits; `headrace dlq list` shows them all")
        return False
    if dry_run:
        _tell(chosen, action, as_json, f"would {action} {_counted(chosen.ready)}; nothing was done")
        return False
    if not yes:
        for cause in chosen.causes():
            click.echo(f"left out: {cause}", err=True)
        click.confirm(f"{action.capitalize()} {_counted(chosen.ready)}?", abort=True, err=True)
    return True


def _tell(chosen: Chosen, action: Action, as_json: bool, line: str) -> None:
    if as_json:
        by_table = Counter(letter.table for letter in chosen.ready)
        show_json({"would": action, "dead_letters": len(chosen.ready), "by_table": by_table, "left": _left(chosen)})
        return
    _say_left(chosen)
    click.echo(line)


def _ask(db: Connection, action: Action, ready: Sequence[Letter], payload: bytes | None, note: str) -> list[Letter]:
    """Write the decisions into the ledger; those of them that nobody else made meanwhile."""
    from cli.progress import ticking
    from ledger import corrections
    from ledger.corrections import Wish

    write, who = corrections.replay if action == "replay" else corrections.drop, _user()
    made: set[tuple[int, str]] = set()
    with ticking(len(ready)) as done:
        for start in range(0, len(ready), _AT_ONCE):
            part = ready[start : start + _AT_ONCE]
            made.update(write(db, [Wish(x.record_id, x.table_version, payload) for x in part], who, note))
            done(start + len(part))
    return [letter for letter in ready if (letter.record_id, letter.table_version) in made]


def _report(chosen: Chosen, asked: Sequence[Letter], as_json: bool, outcome: Any = None) -> None:
    if as_json:
        show_json(
            {
                "asked": len(asked),
                "left": _left(chosen),
                "decided_meanwhile": len(chosen.ready) - len(asked),
                "outcomes": outcome.counts if outcome else None,
                "refused": outcome.refused if outcome else None,
            }
        )
        return
    _say_left(chosen)
    if outcome is None:
        click.echo(f"asked to replay {_counted(asked)}; workers decide it between two batches: `headrace dlq list`")
        return
    click.echo(", ".join(f"{name} {count:,}" for name, count in outcome.counts.items()))
    if outcome.refused:
        show_table(
            "refused again",
            ["id", "table", "why"],
            [(str(letter.record_id), letter.table, letter.refusal) for letter in outcome.refused[:_FEW]],
        )


def _say_left(chosen: Chosen) -> None:
    for cause in chosen.causes():
        click.echo(f"left out: {cause}")


def _left(chosen: Chosen) -> list[dict[str, Any]]:
    return [
        {"why": cause, "dead_letters": len(letters), "record_ids": sorted({x.record_id for x in letters})}
        for cause, letters in chosen.left.items()
    ]


def _counted(letters: Sequence[Letter]) -> str:
    """How many records, of which tables."""
    if not letters:
        return "nothing: it was decided meanwhile"
    records = len({letter.record_id for letter in letters})
    tables = ", ".join(f"{table} {n:,}" for table, n in sorted(Counter(letter.table for letter in letters).items()))
    return f"{records:,} record{'s' if records > 1 else ''} ({tables})"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name
        return "unknown"
