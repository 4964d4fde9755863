"""Which dead letters a command is about: numbers or filters, and which of those found it can do anything with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from cli.options import MOMENT

if TYPE_CHECKING:
    from ledger import Connection
    from ledger.letters import Choice, Letter, Standing

F = TypeVar("F", bound=Callable[..., Any])
Action = Literal["replay", "drop"]
_FEW = 5  # numbers named in one line


def filters(states: Sequence[str]) -> Callable[[F], F]:
    """The options of a command that chooses dead letters; `--state` takes these."""

    def decorate(function: F) -> F:
        for option in reversed(
            [
                click.option("--reason", help="Only this reason, such as bad_time, late or duplicate."),
                click.option("--table", help="Only dead letters of this table; `ingest`: lines refused at ingest."),
                click.option("--topic", help="Only records of this topic, or lines on their way to it."),
                click.option(
                    "--partition",
                    "partitions",
                    multiple=True,
                    type=click.IntRange(0),
                    help="Only records of this partition; may be given several times.",
                ),
                click.option("--since", type=MOMENT, help="Only those recorded at or after this: a time, or 2h ago."),
                click.option("--until", type=MOMENT, help="Only those recorded before this."),
                click.option("--state", type=click.Choice(list(states)), help="Only those in this state."),
            ]
        ):
            function = option(function)
        return function

    return decorate


@dataclass
class Chosen:
    """Dead letters that can be decided on, newest first, and by cause those that cannot."""

    ready: list[Letter] = field(default_factory=list)
    left: Mapping[str, list[Letter]] = field(default_factory=dict)

    def causes(self) -> list[str]:
        """One line for each cause."""
        return [f"{named(letters)}: {cause}" for cause, letters in self.left.items()]


def choice(given: Mapping[str, Any], standings: Sequence[Standing] | None = None) -> Choice:
    """From the values of the options; standings: where `--state` says nothing."""
    from ledger.letters import Choice

    wanted = (given["state"],) if given["state"] else standings
    names = ("reason", "table", "topic", "since", "until")
    return Choice(standings=wanted, partitions=given["partitions"] or None, **{name: given[name] for name in names})


def choose(db: Connection, action: Action, ids: Sequence[int], given: Mapping[str, Any]) -> Chosen:
    """What a command is asked to decide on.

    Filters mean what is open or was refused again, unless `--state` says otherwise; numbers mean what they say.
    Raises `click.UsageError` for both or neither, `UsageError` for a number that is no dead letter.
    """
    from headrace.errors import UsageError
    from ledger import letters

    filtered = [f"--{name.removesuffix('s')}" for name, value in given.items() if value not in (None, ())]
    if ids and filtered:
        raise click.UsageError(f"give either numbers or filters; here are both, numbers and {', '.join(filtered)}")
    if not ids and not filtered:
        raise click.UsageError("name dead letters by their numbers or by filters, such as --reason or --table")
    if not ids:
        return _sorted(action, letters.find(db, choice(given, ("open", "refused"))))
    found = letters.find(db, letters.Choice(ids=ids))
    unknown = sorted(set(ids) - {letter.record_id for letter in found})
    if unknown:
        raise UsageError(
            f"no dead letter {_numbers(unknown)}; nothing was done; `headrace dlq list` shows their numbers"
        )
    return _sorted(action, found)


def _sorted(action: Action, found: Sequence[Letter]) -> Chosen:
    chosen, left = Chosen(), defaultdict(list)
    for letter in found:
        cause = (_no_replay if action == "replay" else _no_drop)(letter)
        if cause:
            left[cause].append(letter)
        else:
            chosen.ready.append(letter)
    chosen.left = dict(left)
    return chosen


def _no_replay(letter: Letter) -> str | None:
    """Why a dead letter cannot be replayed, and what to do instead."""
    if letter.made == "line":
        return "a line of a file, which never reached its topic; correct the file and run `headrace ingest`"
    if letter.made == "archive":
        return "an archive holds the log as it is; `headrace dlq drop` marks it as seen"
    if letter.made == "gone":
        return f"{letter.table_version} is no longer made, no worker would decide it"
    if letter.standing == "replayed":
        return f"replayed already{_by(letter)}"
    if letter.standing == "waiting":
        return "a replay of it waits for its worker already; `headrace status` shows the workers"
    return None


def _no_drop(letter: Letter) -> str | None:
    if letter.standing == "replayed":
        return f"replayed already{_by(letter)}; its rows stay"
    if letter.standing == "dropped":
        return f"dropped already{_by(letter)}"
    if letter.standing == "waiting":
        return "a replay of it waits for its worker; it can be dropped when that is decided"
    return None


def _by(letter: Letter) -> str:
    from cli.output import cell

    return f" (asked by {letter.said_by} at {cell(letter.said_at)})" if letter.said_by else ""


def named(letters: Sequence[Letter]) -> str:
    """Dead letters by their numbers."""
    ids = sorted({letter.record_id for letter in letters})
    return f"dead letter{'s' if len(ids) > 1 else ''} {_numbers(ids)}"


def _numbers(ids: Sequence[int]) -> str:
    more = f" and {len(ids) - _FEW:,} more" if len(ids) > _FEW else ""
    return ", ".join(map(str, ids[:_FEW])) + more
