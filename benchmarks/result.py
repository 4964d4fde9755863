"""What a run measured, the best of several, and the bars they are held against."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.process import Use
from benchmarks.progress import Growth

BARS = {
    "tumbling": {"records_per_s": 400_000, "records_per_cpu_s": 450_000, "peak_rss_mb": 700},
    "tumbling-2": {"records_per_s": 650_000, "records_per_cpu_s": 450_000, "peak_rss_mb": 700},
    "tumbling-1p": {"records_per_s": 200_000, "records_per_cpu_s": 450_000, "peak_rss_mb": 700},
    "hopping": {"records_per_cpu_s": 350_000, "peak_rss_mb": 700},
    "latest": {"records_per_cpu_s": 100_000, "peak_rss_mb": 700},
    "changes": {"peak_rss_mb": 700},
    "join": {"records_per_cpu_s": 60_000, "peak_rss_mb": 700},
    "sessions": {"records_per_cpu_s": 100_000, "peak_rss_mb": 700},
    "dedup": {"records_per_cpu_s": 80_000, "peak_rss_mb": 700},
    "windows-100k": {"peak_rss_mb": 700},
    "windows-10m": {"peak_rss_mb": 700},
    "latest-100k": {"peak_rss_mb": 700},
    "latest-10m": {"peak_rss_mb": 700},
    "derived": {"records_per_cpu_s": 200_000, "peak_rss_mb": 700},
    "archive": {"records_per_cpu_s": 300_000, "peak_rss_mb": 700},
    "ingest-csv": {"records_per_s": 150_000},
}
"""What is wanted: at least so many records, at most so many megabytes (each process)."""


@dataclass(frozen=True)
class Run:
    """One run whose result was right.

    records_per_s and records_per_cpu_s_steady: from the first commit seen to the last. records_per_cpu_s: over all user
    and system time of the processes, their start included. wall_s: from process start to the last commit.
    """

    records: int
    processes: int
    records_per_s: float
    records_per_cpu_s: float
    records_per_cpu_s_steady: float
    peak_rss_mb: float
    steady_s: float
    wall_s: float
    first_commit_s: float
    cpu_s: float
    load: float

    @classmethod
    def of(cls, records: int, growth: Growth, uses: list[Use], load: float) -> Run:
        """The figures of a run; `load`: the machine's load average just before it."""
        cpu = sum(use.cpu_s for use in uses)
        return cls(
            records=records,
            processes=len(uses),
            records_per_s=round(growth.steady_records / growth.steady_s),
            records_per_cpu_s=round(records / cpu),
            records_per_cpu_s_steady=round(growth.steady_records / growth.steady_cpu_s) if growth.steady_cpu_s else 0,
            peak_rss_mb=round(max(use.peak_rss_mb for use in uses)),
            steady_s=round(growth.steady_s, 2),
            wall_s=round(growth.last.at - growth.started, 2),
            first_commit_s=round(growth.first.at - growth.started, 2),
            cpu_s=round(cpu, 2),
            load=round(load, 2),
        )


@dataclass(frozen=True)
class Judged:
    """A figure beside its bar."""

    figure: str
    value: float
    bar: float

    @property
    def met(self) -> bool:
        """Whether it is good enough: memory stays below, everything else reaches it."""
        return self.value < self.bar if self.figure == "peak_rss_mb" else self.value >= self.bar


@dataclass(frozen=True)
class Result:
    """All runs of a benchmark. A rate is the best of them, memory the worst."""

    name: str
    runs: tuple[Run, ...]

    @property
    def judged(self) -> list[Judged]:
        """Each figure that has a bar."""
        best = self.best()
        return [Judged(figure, best[figure], bar) for figure, bar in BARS[self.name].items()]

    def best(self) -> dict[str, float]:
        """The headline figures."""
        rates = ("records_per_s", "records_per_cpu_s", "records_per_cpu_s_steady")
        least = ("wall_s", "first_commit_s")
        return {
            **{rate: max(getattr(run, rate) for run in self.runs) for rate in rates},
            "peak_rss_mb": max(run.peak_rss_mb for run in self.runs),
            **{time: min(getattr(run, time) for run in self.runs) for time in least},
        }

    def document(self) -> dict[str, Any]:
        """Form in the report."""
        bars = {j.figure: {"bar": j.bar, "met": j.met} for j in self.judged}
        head = {"name": self.name, "records": self.runs[0].records, "processes": self.runs[0].processes}
        return {**head, **self.best(), "bars": bars, "runs": [asdict(run) for run in self.runs]}
