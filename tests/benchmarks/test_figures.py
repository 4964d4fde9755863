"""Figures, bars and the comparison with the exact result."""

from __future__ import annotations

import pyarrow as pa
import pytest

from benchmarks import verify
from benchmarks.process import Use
from benchmarks.progress import Growth, Mark
from benchmarks.result import BARS, Result, Run

SUMS = pa.table({"productId": ["a", "a", "b"], "minute": [1, 2, 1], "orders": [3, 1, 2], "cents": [300, 100, 250]})


def a_run(records_per_s: int, rss: float = 500) -> Run:
    growth = Growth(0.0, Mark(3.0, 100_000, 2.0), Mark(13.0, 100_000 + 10 * records_per_s, 12.0))
    return Run.of(100_000 + 10 * records_per_s, growth, [Use(10.0, rss), Use(4.0, 100)], 0.5)


def test_steady_figures_leave_the_start_out() -> None:
    run = a_run(400_000)
    assert (run.records_per_s, run.records_per_cpu_s_steady, run.steady_s) == (400_000, 400_000, 10.0)
    assert (run.records_per_cpu_s, run.wall_s, run.first_commit_s, run.peak_rss_mb) == (4_100_000 // 14, 13.0, 3.0, 500)


def test_a_single_commit_is_measured_from_the_start() -> None:
    only = Mark(2.0, 1_000, 1.0)
    run = Run.of(1_000, Growth(0.0, only, only), [Use(1.0, 100)], 0.0)
    assert (run.records_per_s, run.records_per_cpu_s_steady) == (500, 1_000)


def test_rates_are_the_best_of_all_runs_and_memory_the_worst() -> None:
    result = Result("tumbling", (a_run(390_000, 710), a_run(410_000, 600)))
    assert {judged.figure: judged.met for judged in result.judged} == {
        "records_per_s": True,
        "records_per_cpu_s": False,
        "peak_rss_mb": False,
    }
    document = result.document()
    assert (document["name"], document["records_per_s"], document["peak_rss_mb"]) == ("tumbling", 410_000, 710)
    assert [run["records_per_s"] for run in document["runs"]] == [390_000, 410_000]


def test_every_benchmark_has_bars() -> None:
    from benchmarks.__main__ import NAMES

    assert set(BARS) == set(NAMES)


def test_the_same_sums_in_another_order_are_right() -> None:
    verify.same("table", SUMS.take([2, 0, 1]), SUMS)


@pytest.mark.parametrize(
    "wrong",
    [
        SUMS.slice(0, 2),
        SUMS.set_column(3, "cents", pa.array([300, 100, 251])),
        pa.concat_tables([SUMS, SUMS.slice(0, 1)]),
    ],
    ids=["row missing", "a cent too much", "row twice"],
)
def test_a_wrong_result_is_refused(wrong: pa.Table) -> None:
    with pytest.raises(verify.WrongResult, match="table is wrong"):
        verify.same("table", wrong, SUMS)


def test_growth_is_the_small_rate_over_the_large_one() -> None:
    from benchmarks.growth import times_slower

    assert times_slower("windows", 100, 80) == "windows-10m: 1.25 times slower than windows-100k, met (2 at most)"
    assert "2.50 times slower than latest-100k, MISSED" in times_slower("latest", 100, 40)
