"""The demo's outcome: the JSON report, and the summary on the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click

from cli.demo.expected import NAMES, TABLES
from cli.output import show_table


@dataclass(frozen=True)
class Check:
    """One assertion of the demo: what was found to hold or not."""

    name: str
    passed: bool
    detail: str = ""


@dataclass
class Outcome:
    """Everything the demo found. `records` counts data records consumed, each once, not per table."""

    produced: int = 0
    in_log: int = 0
    records: int = 0
    new_records: int = 0
    tables: dict[str, dict[str, int]] = field(default_factory=dict)
    accounting: list[dict[str, Any]] = field(default_factory=list)
    dead_letters: dict[str, int] = field(default_factory=dict)
    rejected_lines: int = 0
    rejected_by_reason: dict[str, int] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)

    @property
    def green(self) -> bool:
        """Whether every check of the list ran and passed, no table is missing and the accounting is not empty."""
        ran = {check.name for check in self.checks}
        return (
            ran == set(NAMES)
            and all(check.passed for check in self.checks)
            and set(self.tables) == set(TABLES)
            and {entry["table"] for entry in self.accounting} == set(TABLES)
        )

    def as_json(self) -> dict[str, Any]:
        """The report, field by field as documented in docs/reference/demo-report.md."""
        return {
            "produced": self.produced,
            "in_log": self.in_log,
            "records": self.records,
            "new_records": self.new_records,
            "tables": self.tables,
            "accounting": self.accounting,
            "dead_letters": self.dead_letters,
            "rejected_lines": self.rejected_lines,
            "checks": {
                "passed": sum(check.passed for check in self.checks),
                "failed": sum(not check.passed for check in self.checks),
                "names": [check.name for check in self.checks],
                "failures": [asdict(check) for check in self.checks if not check.passed],
            },
            "seconds": self.seconds,
            "records_per_s": self.rates,
        }

    def write(self, file: Path) -> None:
        """Write the report, the old one stays until the new one is whole."""
        part = file.with_name(f".{file.name}.part")
        part.write_text(json.dumps(self.as_json(), indent=2) + "\n")
        part.replace(file)


def show(outcome: Outcome) -> None:
    """The summary for people."""
    click.echo()
    show_table(
        "tables",
        ["table", "rows", "expected rows"],
        [(name, counts["rows"], counts["expected_rows"]) for name, counts in outcome.tables.items()],
    )
    columns = ["consumed", "applied", "late", "duplicate", "dead_lettered", "filtered", "control"]
    show_table(
        "accounting: consumed = applied + late + duplicate + dead lettered + filtered + control",
        ["table", "partition", *(column.replace("_", " ") for column in columns)],
        [(entry["table"], entry["partition"], *(entry[c] for c in columns)) for entry in outcome.accounting],
    )
    show_table("dead letters (records in the topic)", ["reason", "records"], _sorted(outcome.dead_letters))
    show_table("rejected lines (never reached the topic)", ["reason", "lines"], _sorted(outcome.rejected_by_reason))
    show_table("records/s", ["step", "records/s"], [(name, round(rate)) for name, rate in outcome.rates.items()])
    show_table(
        "checks", ["check", "holds", "found"], [(check.name, check.passed, check.detail) for check in outcome.checks]
    )
    show_table("open", ["what", "address"], list(outcome.addresses.items()))
    click.echo(
        f"{outcome.in_log:,} records in the log, {outcome.new_records:,} of them new; "
        f"{sum(check.passed for check in outcome.checks)} of {len(outcome.checks)} checks hold; "
        f"{outcome.seconds.get('total', 0):.0f} s"
    )


def _sorted(counts: Mapping[str, int]) -> Sequence[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
