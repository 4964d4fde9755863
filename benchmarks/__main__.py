"""`python -m benchmarks`: run the benchmarks, compare every result with the exact one, print and keep the figures."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from headrace.errors import HeadraceError

if TYPE_CHECKING:
    import pyarrow as pa

    from benchmarks.place import Place
    from benchmarks.result import Result, Run

GROWING = ("windows", "latest")
ASKED = tuple(
    f"{what}-{rows}" for what in GROWING for rows in ("100k", "10m")
)  # only when named: a state of ten million rows takes a minute to make
USUAL = (
    "tumbling",
    "tumbling-2",
    "tumbling-1p",
    "hopping",
    "sessions",
    "dedup",
    "latest",
    "changes",
    "join",
    "derived",
    "archive",
    "ingest-csv",
)
NAMES = (*USUAL, *ASKED)
RECORDS = 10_000_000
_BUDGET_SECONDS = 660.0  # the runs end within 12 minutes: a run that would not is left out, and the report says so


class Benchmark(Protocol):
    """Something to measure."""

    @property
    def name(self) -> str:
        """Its name on the command line."""
        ...

    def prepare(self, at: Place, records: int, say: Any) -> pa.Table:
        """Make the data, once; returns the exact result."""
        ...

    def run(self, at: Place, records: int, expected: pa.Table, profile: Path | None = None) -> Run:
        """Measure once; raises `WrongResult` when the result is not `expected`."""
        ...


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures to this JSON file.")
@click.option("--only", type=click.Choice(NAMES), multiple=True, help="Only this benchmark; may be given repeatedly.")
@click.option(
    "--records", type=click.IntRange(1_000), default=RECORDS, show_default=True, help="Records of each topic."
)
@click.option("--runs", type=click.IntRange(1, 100), default=3, show_default=True, help="Runs of each benchmark.")
@click.option("--profile/--no-profile", default=True, help="A further run that shows where a worker's time goes.")
def bench(report: Path | None, only: tuple[str, ...], records: int, runs: int, profile: bool) -> None:
    """Measure workers and file ingest on real services of their own; topics and files are made once and kept.

    A wrong result ends with exit code 1; a bar that is missed is only printed.
    """
    if report is not None and not (report.parent.is_dir() and os.access(report.parent, os.W_OK)):
        raise click.UsageError(f"--report: there is no folder {report.parent} that may be written; make it first")
    os.environ["HEADRACE_BENCH_RECORDS"] = str(records)
    from benchmarks import machine, place

    with place.opened() as at:
        document = machine.describe(at)
        results, notes, split = _measure(
            at, [b for b in _benchmarks() if b.name in (only or USUAL)], records, runs, profile
        )
    rates = {result.name: result.best()["records_per_s"] for result in results}
    for what in GROWING:
        if {f"{what}-100k", f"{what}-10m"} <= rates.keys():
            from benchmarks.growth import times_slower

            notes.append(times_slower(what, rates[f"{what}-100k"], rates[f"{what}-10m"]))
    document = {"benchmarks": [result.document() for result in results], "notes": notes, **document}
    if split:
        document["split"] = split
    _show(results, document)
    if report is not None:
        report.write_text(json.dumps(document, indent=2) + "\n")


def _benchmarks() -> list[Benchmark]:
    from benchmarks.archive import Archiving
    from benchmarks.catalog import orders
    from benchmarks.changes import Changing
    from benchmarks.derived import Deriving
    from benchmarks.growth import Growth
    from benchmarks.hopping import Hopping
    from benchmarks.ingest import Ingest
    from benchmarks.joins import Joining
    from benchmarks.latest import Latest
    from benchmarks.sessions import Sessions
    from benchmarks.tumbling import Tumbling

    return [
        Tumbling("tumbling", orders.product_minutes, workers=1),
        Tumbling("tumbling-2", orders.product_minutes, workers=2),
        Tumbling("tumbling-1p", orders.product_minutes_1p, workers=1),
        Hopping("hopping", orders.product_hops, workers=1),
        Latest("latest", orders.newest_orders),
        Changing("changes", orders.told_orders),
        Joining("join", orders.paid_orders, before=5_000_000, after=10_000_000),
        Sessions("sessions", orders.customer_sessions, workers=1),
        Tumbling("dedup", orders.product_minutes_once, workers=1),
        Growth("windows-100k", orders.customer_minutes, 100_000),
        Growth("windows-10m", orders.customer_minutes, 10_000_000),
        Latest("latest-100k", orders.newest_orders, 100_000),
        Latest("latest-10m", orders.newest_orders, 10_000_000),
        Deriving("derived", orders.by_product),
        Archiving("archive", orders.lake),
        Ingest("ingest-csv", orders.orders_csv),
    ]


def _measure(
    at: Place, benchmarks: list[Benchmark], records: int, runs: int, profile: bool
) -> tuple[list[Result], list[str], dict[str, Any]]:
    """All runs in rounds, so that a noisy minute of the machine does not fall on one benchmark alone."""
    from benchmarks.catalog import orders
    from benchmarks.result import Result
    from benchmarks.split import Split

    few = ("hopping", "sessions", "dedup", "latest", "changes", "archive", *ASKED)
    fewer = dict.fromkeys(few, orders.FEW) | {"ingest-csv": orders.ROWS, "join": orders.EACH}
    sizes = {b.name: fewer.get(b.name, records) for b in benchmarks}
    expected = {b.name: b.prepare(at, sizes[b.name], _say) for b in benchmarks}
    began = time.monotonic()
    took: dict[str, float] = {}
    made: dict[str, list[Run]] = {b.name: [] for b in benchmarks}
    notes: list[str] = []

    def fits(name: str) -> bool:
        return time.monotonic() - began + took.get(name, 0.0) < _BUDGET_SECONDS

    split: dict[str, Any] = {}
    for number in range(1, runs + 1):
        for benchmark in benchmarks:
            name = benchmark.name
            if made[name] and not fits(name):
                notes.append(f"{name}: run {number} of {runs} was left out, it would have ended after 11 minutes")
                continue
            start = time.monotonic()
            run = benchmark.run(at, sizes[name], expected[name])
            took[name] = time.monotonic() - start
            made[name].append(run)
            _say(
                f"{name}, run {number} of {runs}: {run.records_per_s:,} records/s, "
                f"{run.records_per_cpu_s:,} per CPU-second, {run.peak_rss_mb:.0f} MB, exact"
            )
    profiled = next((b for b in benchmarks if b.name.startswith("tumbling")), None)
    if profile and profiled and fits(profiled.name):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "profile.json")
            profiled.run(at, sizes[profiled.name], expected[profiled.name], profile=file)
            split = {"benchmark": profiled.name, **Split.read(file).document()}
    return [Result(name, tuple(runs_made)) for name, runs_made in made.items()], notes, split


def _show(results: list[Result], document: dict[str, Any]) -> None:
    from cli.output import show_table

    rows = []
    for result in results:
        for judged in result.judged:
            verdict = "met" if judged.met else "MISSED"
            limit = "below" if judged.figure == "peak_rss_mb" else "at least"
            rows.append((result.name, judged.figure, judged.value, f"{limit} {judged.bar:,}", verdict))
    show_table(f"best of {max(len(r.runs) for r in results)}", ["benchmark", "figure", "value", "bar", ""], rows)
    if "split" in document:
        parts = document["split"]["parts"].items()
        show_table(
            f"where the time of one worker goes ({document['split']['benchmark']}, a run of its own)",
            ["phase", "CPU s", "wall s", "share of CPU"],
            [(name, part["cpu_s"], part["wall_s"], f"{part['share']:.0%}") for name, part in parts],
        )
    for note in document["notes"]:
        _say(note)


def _say(line: str) -> None:
    click.echo(line, err=True)


def main() -> int:
    """Run the command; every error is one message."""
    try:
        bench.main(standalone_mode=False)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.UsageError as error:
        _say(f"bench: {' '.join(error.format_message().split()).rstrip('.')}; see `python -m benchmarks --help`")
        return 2
    except (click.Abort, KeyboardInterrupt):
        _say("bench: interrupted; what it had started is stopped")
        return 130
    except HeadraceError as error:
        _say(f"bench: {error}")
        return 1
    except Exception as error:
        if os.environ.get("HEADRACE_DEBUG"):
            raise
        _say(f"bench: unexpected {type(error).__name__}: {error}; HEADRACE_DEBUG=1 shows where it happened")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
