"""The demo's assertions: an exact list. A check that did not run fails the demo as much as one that does not hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from cli.demo import recompute
from cli.demo.expected import TABLES
from cli.demo.landing import Manifest
from cli.demo.report import Check, Outcome
from cli.demo.stages import Stage
from headrace.settings import Settings
from ledger import connection, corrections, reports
from orchestration.recount import Recount, ends, recount
from topology import Topic

__all__ = ["ends", "examine"]


def examine(
    outcome: Outcome,
    manifest: Manifest,
    settings: Settings,
    topic: Topic,
    before: Mapping[int, tuple[int, int]],
    stage: Stage,
) -> None:
    """Fill `outcome`: numbers, accounting, dead letters, tables and checks. `before`: offsets when the demo began."""
    engine = reports.engine(settings.need_postgres())
    entries = [entry for entry in reports.accounting(engine) if entry.topic == topic.name]
    stage.say("recounting the log")
    log = recount(settings.kafka(), topic.name, {number: high for number, (_low, high) in before.items()})
    outcome.in_log, outcome.new_records = log.data, log.new
    outcome.accounting = [_accounting(entry) for entry in entries]
    outcome.records = sum(e.consumed - e.control for e in entries if e.table == TABLES[0])
    outcome.dead_letters = reports.dead_letters_by_reason(engine)
    outcome.rejected_by_reason = reports.rejected_lines(engine)
    outcome.rejected_lines = sum(outcome.rejected_by_reason.values())
    stage.say("recomputing the tables")
    with recompute.Recomputation(manifest.files) as expected:
        foreign = expected.add_foreign(log.foreign, settings.need_registry())
        outcome.produced = manifest.produced + foreign.records
        with connection.connect(settings.need_postgres()) as database:
            for table in TABLES:
                expected.add_replayed(table, corrections.replayed(database, table), settings.need_registry())
        found = [
            *_manifest(outcome, manifest, foreign),
            *_identities(entries),
            *_recounted(entries, log),
            *_tables(outcome, expected, settings),
        ]
    outcome.checks = found


def _manifest(outcome: Outcome, manifest: Manifest, foreign: recompute.Foreign) -> list[Check]:
    dead = recompute.total(manifest.dead_letters, foreign.dead_letters)
    return [
        _equal("produced", outcome.produced, outcome.in_log + outcome.rejected_lines),
        _equal("rejected_lines", _counted(manifest.rejected), _counted(outcome.rejected_by_reason)),
        _equal("dead_letters", _counted(dead), _counted(outcome.dead_letters)),
    ]


def _identities(entries: list[reports.Accounting]) -> list[Check]:
    found = []
    for table in TABLES:
        own = [entry for entry in entries if entry.table == table]
        fates = [e.consumed == e.applied + e.late + e.duplicate + e.dead_lettered + e.filtered + e.control for e in own]
        offsets = [e.next_offset - e.first_offset == e.consumed + e.gaps for e in own]
        note = f"{len(own)} partitions"
        found += [Check(f"fates:{table}", bool(own) and all(fates), note)]
        found += [Check(f"offsets:{table}", bool(own) and all(offsets), note)]
    return found


def _recounted(entries: list[reports.Accounting], log: Recount) -> list[Check]:
    found = []
    seen = {(p.partition, p.first, p.end, p.data + p.markers, p.markers) for p in log.partitions}
    for table in TABLES:
        own = {(e.partition, e.first_offset, e.next_offset, e.consumed, e.control) for e in entries if e.table == table}
        names = "partition, first, next, consumed, control"
        detail = f"{log.data:,} records" if own == seen else f"({names}): {sorted(own ^ seen)}"
        found.append(Check(f"recount:{table}", own == seen, detail))
    return found


def _tables(outcome: Outcome, expected: recompute.Recomputation, settings: Settings) -> list[Check]:
    found = []
    with connection.connect(settings.need_postgres()) as database:
        for table in TABLES:
            exists = database.execute("select to_regclass(%s) is not null", [f'public."{table}"']).fetchone()
            if not exists or not exists[0]:
                found.append(Check(f"rows:{table}", False, "the table is missing"))
                continue
            with database.cursor().copy(
                f'COPY (SELECT * FROM public."{table}") TO STDOUT (FORMAT csv, HEADER)'
            ) as rows:
                difference = expected.compare(table, rows)
            outcome.tables[table] = {"rows": difference.rows, "expected_rows": difference.expected_rows}
            found.append(Check(f"rows:{table}", difference.none, difference.describe()))
    return found


def _accounting(entry: reports.Accounting) -> dict[str, object]:
    names = ("table", "topic", "partition", "consumed", "applied", "late", "duplicate", "dead_lettered", "filtered")
    values = asdict(entry)
    return {name: values[name] for name in (*names, "control")}


def _equal(name: str, expected: object, found: object) -> Check:
    return Check(name, expected == found, str(found) if expected == found else f"expected {expected}, found {found}")


def _counted(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in sorted(counts.items()) if count}
