"""Waiting until the owners of shards have decided replays, and who keeps it waiting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.clock import SYSTEM_CLOCK, Clock
from headrace.deadline import Deadline
from headrace.errors import HeadraceError

if TYPE_CHECKING:
    from ledger import Connection
    from ledger.letters import Letter

_POLL = 0.3
_SILENT_SECONDS = 5.0  # a worker beats every second


@dataclass(frozen=True)
class Outcome:
    """What became of replays: those decided, as they stand now, and those that are `late`: not decided in time."""

    decided: Sequence[Letter]
    late: Sequence[Letter]

    @property
    def counts(self) -> dict[str, int]:
        """How many were replayed, refused again, and so on; `waiting` for those not decided."""
        found = Counter[str](letter.standing for letter in self.decided)
        return {
            "replayed": found.pop("replayed", 0),
            "refused": found.pop("refused", 0),
            **found,
            "waiting": len(self.late),
        }

    @property
    def refused(self) -> list[Letter]:
        """Those that are dead letters again."""
        return [letter for letter in self.decided if letter.standing == "refused"]


def wait(db: Connection, asked: Sequence[Letter], seconds: float, clock: Clock = SYSTEM_CLOCK) -> Outcome:
    """Wait until all are decided, at most `seconds`."""
    from cli.progress import ticking
    from ledger import letters

    deadline = Deadline.after(seconds, clock)
    left = {(letter.record_id, letter.table_version): letter for letter in asked}
    decided: list[Letter] = []
    with ticking(len(asked)) as done:
        while left:
            ids = sorted({record_id for record_id, _ in left})
            for letter in letters.find(db, letters.Choice(ids=ids)):
                key = letter.record_id, letter.table_version
                if key in left and letter.standing != "waiting":
                    decided.append(letter)
                    del left[key]
            done(len(decided))
            if deadline.passed():
                break
            clock.wait(min(_POLL, deadline.remaining()) if left else 0)
    return Outcome(decided, list(left.values()))


def idle(db: Connection, asked: Sequence[Letter]) -> list[str]:
    """A line for each pipeline that has no worker to decide anything."""
    return [line for name in _pipelines(asked) if (line := _nobody(db, name))]


def complain(db: Connection, outcome: Outcome, seconds: float) -> None:
    """Raise `HeadraceError`: who keeps it waiting, and what to type."""
    names = _pipelines(outcome.late)
    why = "; ".join(_nobody(db, name) or _busy(db, name) for name in names)
    raise HeadraceError(f"{len(outcome.late):,} of {_total(outcome):,} still wait after {seconds:g} s: {why}")


def _total(outcome: Outcome) -> int:
    return len(outcome.decided) + len(outcome.late)


def _pipelines(letters: Sequence[Letter]) -> list[str]:
    return sorted({letter.pipeline for letter in letters if letter.pipeline})


def _nobody(db: Connection, pipeline: str) -> str | None:
    from ledger import workers

    if workers.alive(db, pipeline, _SILENT_SECONDS):
        return None
    switch = workers.switch(db, pipeline)
    if switch is not None and not switch.on:
        return f"{pipeline} is switched off; it is decided after `headrace worker start {pipeline}`"
    if not workers.supervisors(db):
        return f"no worker of {pipeline} runs and no supervisor would start one; run `headrace supervisor run`"
    error = workers.last_error(db, pipeline)
    return f"no worker of {pipeline} runs yet{f' ({error})' if error else ''}; `headrace status` shows why"


def _busy(db: Connection, pipeline: str) -> str:
    from ledger import shards

    errors = shards.errors(db, pipeline)
    if errors:
        return f"{pipeline} stands still ({errors[0]}); `headrace status` shows more"
    return f"the workers of {pipeline} go on with it; `headrace dlq list --state waiting` shows what is left"
