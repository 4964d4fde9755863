"""The demo's input: landing files with a manifest of what is in them, and broken records for the topic itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cli.demo.recompute import Recomputation, total
from cli.demo.stages import Stage
from headrace.errors import UsageError
from headrace.settings import Settings
from ingestion import generate, orders
from ingestion.delivery import FileReport
from ingestion.records import ingest_records
from topology import Topic

_BROKEN_EACH = 3
_PATTERNS = ("orders/*.csv", "orders/*.jsonl")


@dataclass(frozen=True)
class Manifest:
    """What there is to ingest. rows: of the files, good and bad; rejected, dead_letters: expected, by reason."""

    files: tuple[Path, ...]
    rows: int
    rejected: Mapping[str, int]
    dead_letters: Mapping[str, int]

    @property
    def produced(self) -> int:
        """Rows of the files and the records sent straight to the topic."""
        return self.rows + _BROKEN_EACH * len(generate.BROKEN_KINDS)


def make(folder: Path, events: int, days: int, bad: float, seed: int, stage: Stage) -> Manifest:
    """The manifest of the landing files, which are generated unless they are there from an earlier demo."""
    made = generate.read_manifest(folder)
    if made is None:
        stage.say(f"making {events:,} orders over {days} days")
        made = generate.generate(folder, events=events, bad=bad, seed=seed, days=days)
    elif not all((folder / file.name).is_file() for file in made.files):
        stage.say(f"making {made.rows:,} orders again: some files are gone")
        share = sum(made.bad.values()) / made.rows
        again = generate.generate(folder, events=made.rows, bad=share, seed=made.seed, days=made.days)
        if again != made:
            raise UsageError(
                f"landing files are missing in {folder} and cannot be made again as they were; bring them back, or "
                "begin anew: headrace down, then remove that folder and the data of HEADRACE_HOME"
            )
    else:
        stage.say(f"{made.rows:,} orders in {len(made.files)} files are there")
    return _with_others(folder, made)


def send_broken(topic: Topic, schema_id: int, settings: Settings) -> FileReport:
    """Send records that no file can hold straight to the topic, once."""
    records = generate.broken_records(topic.shape, schema_id, partitions=topic.partitions, each=_BROKEN_EACH)
    return ingest_records(topic, records, "demo: broken records", settings)


def _with_others(folder: Path, made: generate.Manifest) -> Manifest:
    """`made`, and files that somebody else put beside them: for those the recomputation is the only judge."""
    own = {folder / file.name for file in made.files}
    present = {path for pattern in _PATTERNS for path in folder.glob(pattern) if not path.name.startswith(".")}
    others = sorted(present - own)
    rejected = {kind: made.bad[kind] for kind in orders.REJECTED_KINDS}
    judged = {reason: made.bad[kind] for kind, reason in orders.JUDGED_KINDS.items()}
    broken = dict.fromkeys(generate.BROKEN_KINDS.values(), _BROKEN_EACH)
    rows = made.rows
    if others:
        with Recomputation(others) as found:
            rows += found.lines()
            rejected, judged = total(rejected, found.rejected()), total(judged, found.dead_letters())
    return Manifest((*sorted(own), *others), rows, rejected, total(judged, broken))
