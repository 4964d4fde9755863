"""Planted bugs: each must turn its test red. `make mutants` runs them; `--list` names them.

A mutant is one textual change to a copy of the tree. A test that stays green under its mutant would not have noticed
the bug, and the run fails. The same tests have to be green without a bug first.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_LEFT_OUT = shutil.ignore_patterns(".git", ".venv", ".headrace", "data", "__pycache__", ".*_cache", ".hypothesis")


@dataclass(frozen=True)
class Mutant:
    """One planted bug: `edits` are (file, text, what it becomes), and `test` must fail."""

    name: str
    edits: tuple[tuple[str, str, str], ...]
    test: str


_WORKERS = "tests/stream_workers"

_ADVANCE = "ledger/sql/position_advance.sql"
_COMMIT = "stream_workers/committing.py"

MUTANTS = (
    Mutant(
        # Without the comparison of epoch and position the ledger's own identity still stops a zombie, so that goes too.
        "fence-off",
        (
            (_ADVANCE, "and epoch = %(epoch)s", ""),
            (_ADVANCE, "and p.next_offset = %(from_offset)s", ""),
            (
                "ledger/migrations/0001_ledger.sql",
                "check (next_offset - first_offset = consumed + gaps)",
                "check (true)",
            ),
        ),
        f"{_WORKERS}/test_faults.py::test_stopped_past_its_lease_then_continued[routed]",
    ),
    Mutant(
        "offset-before-data",
        ((_COMMIT, "hit(Step.ADVANCED)", 'hit(Step.ADVANCED), db.execute("commit"), db.execute("begin")'),),
        f"{_WORKERS}/test_faults.py::test_killed_between_any_two_steps[staged]",
    ),
    Mutant(
        "lost-dead-letter",
        ((_COMMIT, "dead_letters.record(db, refused)", "dead_letters.record(db, refused[1:])"),),
        f"{_WORKERS}/test_pipeline.py::test_every_record_has_one_fate_and_the_tables_are_exact",
    ),
    Mutant(
        "lost-late-record",
        ((_COMMIT, "skipped.encoded(found.late,", "skipped.encoded(found.late[1:],"),),
        "tests/operators/test_late.py::test_equals_the_batch_query",
    ),
    Mutant(
        "duplicate-forgotten-at-a-commit",
        (("stream_workers/dedup.py", "    until[found[:, 0]] = found[:, 1]\n", "    found[:, 0]\n"),),
        "tests/operators/test_dedup.py::test_equals_the_batch_query",
    ),
    Mutant(
        "duplicate-registers-its-id",
        (
            (
                "stream_workers/dedup.py",
                "again[index] = True\n        else:\n    ",
                "again[index] = True\n        if True:\n    ",
            ),
        ),
        "tests/operators/test_dedup.py::test_equals_the_batch_query",
    ),
    Mutant(
        "outbox-gap",
        (
            (
                "stream_workers/emit/closing.py",
                "version, at.outbox_seq, schema_id)",
                "version, at.outbox_seq + 1, schema_id)",
            ),
        ),
        "tests/operators/test_final.py::test_the_last_revision_is_what_the_query_gives",
    ),
    Mutant(
        "late-change-not-emitted",
        (("stream_workers/fates.py", "<= seen.before] if final", "<= seen.before][1:] if final"),),
        "tests/operators/test_final_sessions.py::test_what_is_a_session_no_more_is_withdrawn",
    ),
    Mutant(
        "closed-further-than-read",
        (("stream_workers/emit/closing.py", "closed_through=until)", "closed_through=due)"),),
        "tests/operators/test_final.py::test_much_at_once_is_closed_in_steps_and_whole[quarters]",
    ),
    Mutant(
        "deletion-not-sent",
        (("topology/changes_compile.py", '"NOT v._deleted", source', '"true", source'),),
        "tests/operators/test_changes.py::test_the_last_record_of_each_key_is_the_row",
    ),
    Mutant(
        "merged-session-not-withdrawn",
        (("topology/changes_compile.py", "LEFT JOIN LATERAL", "JOIN LATERAL"),),
        "tests/operators/test_changes.py::test_the_last_record_of_each_key_is_the_row",
    ),
    Mutant(
        "corrected-row-not-sent",
        (("stream_workers/correcting.py", "if routed and sends(program, routed)", "if False"),),
        "tests/operators/test_changes.py::test_the_last_record_of_each_key_is_the_row",
    ),
    Mutant(
        "row-before-forgotten-between-batches",
        (("stream_workers/emit/transitions.py", "zip(*before, strict=True) if before else", "zip() if False else"),),
        "tests/operators/test_transitions.py::test_equals_the_query_over_the_log",
    ),
    Mutant(
        "older-record-is-a-transition",
        (("topology/transition_compile.py", "_event_time >= {_HIGH}", "TRUE"),),
        "tests/operators/test_transitions.py::test_equals_the_query_over_the_log",
    ),
    Mutant(
        "chain-by-the-watermark-of-its-second-topic",
        (
            (
                "topology/join_compile.py",
                "p.table_version = {text(right.tables[0].version_id)}",
                "p.table_version = {text(left.tables[-1].version_id)}",
            ),
            (
                "topology/join_compile.py",
                "p.topic = {text(right.source.name)}",
                "p.topic = {text(left.tables[-1].table.source.name)}",
            ),
        ),
        "tests/operators/test_join_chains.py::test_a_row_waits_for_the_watermark_of_the_third_topic",
    ),
    Mutant(
        "derived-owner-forgets-its-corrections",
        (
            (
                "stream_workers/derive/opening.py",
                "correction_seq=held.correction_seq if held else 0",
                "correction_seq=0",
            ),
        ),
        f"{_WORKERS}/derive/test_derived.py::test_corrections_that_only_kafka_has_are_an_error_until_a_person_accepts",
    ),
    Mutant(
        "pair-as-old-as-its-left-row",
        (("topology/join_compile.py", "greatest(l._event_time, r._event_time)", "l._event_time"),),
        "tests/operators/test_join_chains.py::test_equals_the_batch_query_at_every_cut",
    ),
    Mutant(
        "merged-session-stays",
        (("topology/final_sessions.py", "WHERE l.{DIGEST} IS NOT NULL\\n", "WHERE l.{DIGEST} IS NULL\\n"),),
        "tests/operators/test_final_sessions.py::test_what_is_not_withdrawn_is_what_the_query_gives",
    ),
    Mutant(
        "session-goes-on-unnoticed",
        (("topology/final_sessions.py", "reopens_micros=window.micros", "reopens_micros=0"),),
        "tests/operators/test_final_sessions.py::test_what_is_a_session_no_more_is_withdrawn",
    ),
    Mutant(
        "waking-partition-corrects-nothing",
        (("stream_workers/fates.py", "(batch.corrected or table.final.idles)", "batch.corrected"),),
        "tests/operators/test_final_idle.py::test_who_wakes_up_corrects",
    ),
    Mutant(
        "window-of-records-emitted-early",
        (("topology/final_counts.py", "WHERE window_records = {", "WHERE window_records <= {"),),
        "tests/operators/test_final_counts.py::test_each_full_window_is_emitted_once",
    ),
    Mutant(
        "alert-on-a-withdrawn-session",
        (("topology/derived_compile.py", 'f"not {WITHDRAWN} and (', 'f"{WITHDRAWN} is not null and ('),),
        "tests/operators/test_alerts.py::test_a_withdrawn_session_is_no_alert",
    ),
    Mutant(
        "outbox-published-again",
        (("stream_workers/emit/publishing.py", "    return at\n", "    return claim.published_seq\n"),),
        f"{_WORKERS}/emit/test_final.py::test_kafkas_offset_is_the_truth",
    ),
    Mutant(
        "gap-in-the-outbox",
        (("stream_workers/emit/letters.py", "box.shard, topic, seq, records)", "box.shard, topic, seq + 1, records)"),),
        f"{_WORKERS}/emit/test_letters.py::test_a_zombie_publishes_nothing_more",
    ),
    Mutant(
        "letter-sent-for-each-table",
        (("stream_workers/emit/letters.py", "if offset in fresh:", "if fresh or True:"),),
        f"{_WORKERS}/emit/test_letters.py::test_killed_at_any_step_and_joined_by_a_table_that_comes_later",
    ),
    Mutant(
        "archive-cut-changed",
        (("stream_workers/archive/opening.py", "Held(table, begun.get(version))", "Held(table)"),),
        "tests/operators/test_archive.py::test_each_record_is_in_one_file_whatever_crashes",
    ),
    Mutant(
        "added-table-joins-early",
        (("stream_workers/owned.py", "self.at(other) == self.at(source)", "self.at(other) >= self.at(source)"),),
        f"{_WORKERS}/test_added.py::test_the_others_go_on_while_it_catches_up",
    ),
    Mutant(
        "compaction-loses-a-file",
        (("stream_workers/archive/compaction.py", "for file in group]", "for file in group[1:]]"),),
        "tests/operators/test_archive.py::test_each_record_is_in_one_file_whatever_crashes",
    ),
    Mutant(
        "archive-file-unlisted",
        (("stream_workers/archive/committing.py", "held.cut, files)", "held.cut, files[1:])"),),
        "tests/operators/test_archive.py::test_each_record_is_in_one_file_whatever_crashes",
    ),
    Mutant(
        "derived-produced-again",
        (("stream_workers/derive/committing.py", "if _is_new(batch, state, version)}", "}"),),
        "tests/operators/test_derived.py::test_equals_the_query_whatever_crashes",
    ),
    Mutant(
        "alert-id-without-partition",
        (("stream_workers/derive/committing.py", "{batch.topic}:{batch.partition}:", "{batch.topic}:0:"),),
        "tests/operators/test_derived.py::test_equals_the_query_whatever_crashes",
    ),
    Mutant(
        "final-row-too-far-ahead",
        (("topology/final.py", '"36500 days"', '"1 hour"'),),
        "tests/operators/test_alerts.py::test_equals_the_query_over_the_final_rows",
    ),
    Mutant(
        "derived-dead-letter-lost",
        (
            (
                "stream_workers/derive/committing.py",
                "for refusal in one.refusals\n",
                "for refusal in one.refusals[1:]\n",
            ),
        ),
        "tests/operators/test_derived.py::test_equals_the_query_whatever_crashes",
    ),
    Mutant(
        # A record that counts in the table as it is built anew is taken for one that was left out.
        "late-record-replayed-twice",
        (
            (
                "stream_workers/correcting.py",
                "fates.get(one.offset) for one",
                'fates.get(one.offset, "late") for one',
            ),
        ),
        "tests/operators/test_left_out.py::test_each_is_applied_once_whatever_is_built_anew",
    ),
    Mutant(
        "corrected-record-derived-again",
        (("stream_workers/derive/correcting.py", "if last <= held.correction_seq:", "if last <= 0:"),),
        "tests/operators/test_derived.py::test_a_corrected_record_is_sent_once_whatever_crashes",
    ),
    Mutant(
        # Reads its corrections from the first one again; what stops that elsewhere goes too.
        "correction-applied-twice",
        (
            ("ledger/sql/correction_due.sql", "and c.seq > %(seq)s", "and c.seq > 0 * %(seq)s"),
            ("ledger/sql/correction_advance.sql", "and p.correction_seq = %(from_seq)s", ""),
            ("ledger/sql/correction_decide.sql", "and d.state <> 'replayed'", ""),
            (
                "ledger/sql/correction_decide.sql",
                "      from given\n), moved",
                "      from given on conflict do nothing\n), moved",
            ),
            ("ledger/corrections.py", 'self.state in ("open", "dropped")', "self.state is not None"),
        ),
        "tests/operators/test_corrections.py::test_equals_the_query_over_log_and_corrections",
    ),
    Mutant(
        "marker-of-one-partition",
        (("stream_workers/derive/position.py", " and len(marked) == len(found)", ""),),
        f"{_WORKERS}/derive/test_markers.py::test_a_partition_without_a_marker_holds_them_back",
    ),
    Mutant(
        "tombstone-resurrected",
        (
            (
                "topology/latest_compile.py",
                '"(excluded._event_time, excluded._offset) > (t._event_time, t._offset)"',
                '"t._deleted OR (excluded._event_time, excluded._offset) > (t._event_time, t._offset)"',
            ),
        ),
        "tests/operators/test_latest.py::test_equals_the_batch_query",
    ),
    Mutant(
        "failing-rows-lost",
        (("orchestration/quality_rows.py", "one, row) for row in found]", "one, row) for row in found[1:]]"),),
        "tests/orchestration/test_quality.py::test_a_negative_amount_let_through_is_shown_with_its_key_and_offsets",
    ),
    Mutant(
        "duplicate-looked-for-in-the-view",
        (("topology/check_expect.py", "rows = stored_rows(self._program) if stored else", "rows ="),),
        "tests/orchestration/test_quality.py::test_green_then_a_key_written_twice_by_hand_turns_one_check_red",
    ),
    Mutant(
        "own-window-among-those-before",
        (("topology/view_compile.py", "PRECEDING AND 1 PRECEDING)", "PRECEDING AND CURRENT ROW)"),),
        "tests/operators/test_views.py::test_equals_the_batch_query",
    ),
    Mutant(
        "bound-without-its-end",
        (
            (
                "topology/join_compile.py",
                "BETWEEN l._event_time + {_interval(low)} AND l._event_time + {_interval(high)}",
                ">= l._event_time + {_interval(low)} AND r._event_time < l._event_time + {_interval(high)}",
            ),
        ),
        "tests/operators/test_joins.py::test_equals_the_batch_query_at_every_cut",
    ),
    Mutant(
        "unmatched-by-own-watermark",
        (
            (
                "topology/join_compile.py",
                "p.table_version = {text(right.tables[0].version_id)}",
                "p.table_version = {text(left.tables[0].version_id)}",
            ),
            (
                "topology/join_compile.py",
                "p.topic = {text(right.source.name)}",
                "p.topic = {text(left.source.name)}",
            ),
        ),
        "tests/operators/test_joins.py::test_equals_the_batch_query_at_every_cut",
    ),
    Mutant(
        "matched-in-one-partition-alone",
        (("topology/join_compile.py", "ON r.{other} = l.{key}", "ON r.shard = l.shard AND r.{other} = l.{key}"),),
        "tests/operators/test_joins.py::test_equals_the_batch_query_at_every_cut",
    ),
    Mutant(
        "looked-up-beyond-the-vector",
        (("topology/lookup_sql.py", "s._offset < v.next_offset AND", ""),),
        "tests/operators/test_lookup.py::test_equals_the_query_at_the_same_vector",
    ),
    Mutant(
        "deleted-version-found",
        (("topology/lookup_sql.py", "coalesce(NOT v._deleted, FALSE)", "v._deleted IS NOT NULL"),),
        "tests/operators/test_lookup.py::test_a_deletion_ends_a_version_and_is_none",
    ),
    Mutant(
        "sample-taken-for-all",
        (("topology/spread.py", '"{count} - 1" if function', '"{count}" if function'),),
        "tests/operators/test_measures.py::test_equals_the_batch_query",
    ),
    Mutant(
        "distinct-in-each-partition",
        (("topology/distinct.py", "count(DISTINCT d.{quoted(_VALUE)})", "count(d.{quoted(_VALUE)})"),),
        "tests/operators/test_distinct.py::test_equals_the_batch_query",
    ),
    Mutant(
        "division-by-zero",
        (("topology/derived_column.py", 'f"({a} / nullif({b}, 0))"', 'f"({a} / {b})"'),),
        "tests/operators/test_derived_column.py::test_no_number_makes_a_query_fail",
    ),
    Mutant(
        "measures-mixed-up",
        (("topology/derived_column.py", 'role: f"{one.view.name} {role}" for', "role: role for"),),
        "tests/operators/test_derived_column.py::test_equals_the_batch_query",
    ),
    Mutant(
        "pane-edge",
        (("topology/windowing.py", "interval '{size - pane} microseconds'", "interval '{size} microseconds'"),),
        "tests/operators/test_hopping.py::test_overlapping_windows_equal_the_query",
    ),
    Mutant(
        "session-not-merged",
        (("topology/sessions.py", "AND t.window_start < s.window_end)", "AND t.window_start < s.window_start)"),),
        "tests/operators/test_sessions.py::test_equals_the_batch_query",
    ),
    Mutant(
        "count-window-begins-anew",
        (("topology/counting.py", "(coalesce(max(c.counted)", "(coalesce(0 * max(c.counted)"),),
        "tests/operators/test_count_windows.py::test_equals_the_batch_query",
    ),
    Mutant(
        "first-of-two-partitions",
        (("topology/merging.py", "{time} {way}, {rows}.shard {way}, {offset} {way}", "{time} {way}, {offset} {way}"),),
        "tests/operators/test_measures.py::test_equal_event_times_are_told_apart_by_partition_then_offset",
    ),
    Mutant(
        "null-wipes-sum",
        (
            (
                "topology/merging.py",
                'f"coalesce({_TWO[state.merge].format(a=a, b=b)}, {a}, {b})"',
                "_TWO[state.merge].format(a=a, b=b)",
            ),
        ),
        "tests/topology/test_state.py::test_a_group_of_nulls_never_wipes_a_value",
    ),
)


def _try(mutants: Sequence[Mutant], tests: Sequence[str]) -> tuple[int, str]:
    """Exit code and last lines of the tests, in a copy of the tree with these bugs planted."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=_LEFT_OUT)
        for mutant in mutants:
            for name, old, new in mutant.edits:
                text = (tree / name).read_text()
                assert text.count(old) == 1, f"{mutant.name}: its place in {name} is gone; plant it anew"
                (tree / name).write_text(text.replace(old, new))
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests],
            cwd=tree,
            env={"HEADRACE_EXAMPLES": "25", **os.environ, "PYTHONPATH": str(tree)},
            capture_output=True,
            text=True,
            check=False,
        )
    return run.returncode, "\n".join(run.stdout.splitlines()[-15:])


def main() -> int:
    """Run all mutants, or those named; 0 when each was caught."""
    parser = argparse.ArgumentParser(description="planted bugs, each must turn its test red")
    parser.add_argument("names", nargs="*", help="mutants to run (default: all)")
    parser.add_argument("--list", action="store_true", help="name the mutants and end")
    given = parser.parse_args()
    unknown = set(given.names) - {mutant.name for mutant in MUTANTS}
    if unknown:
        parser.error(f"no mutant named {', '.join(sorted(unknown))}; see --list")
    chosen = [mutant for mutant in MUTANTS if not given.names or mutant.name in given.names]
    if given.list:
        for mutant in chosen:
            print(f"{mutant.name:20} {mutant.test}")
        return 0
    code, tail = _try((), [mutant.test for mutant in chosen])
    if code:
        print(f"the tests are red without any planted bug; nothing was tried\n{tail}")
        return 1
    survivors = 0
    for mutant in chosen:
        began = time.monotonic()
        code, tail = _try((mutant,), (mutant.test,))
        caught = code == 1  # tests ran and failed; anything else (5: none collected, 2: interrupted) caught nothing
        print(f"{'caught  ' if caught else 'SURVIVED'} {mutant.name} ({time.monotonic() - began:.0f} s)", flush=True)
        if not caught:
            survivors += 1
            print(tail)
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
