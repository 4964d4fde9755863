"""`python -m benchmarks` as users call it: small, on the session's services."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from headrace.settings import ROOT
from tests.conftest import Services


def bench(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--only", "speed"], "'speed' is not one of"),
        (["--records", "10"], "10 is not in the range"),
        (["--records", "many"], "'many' is not a valid integer"),
        (["--report", "nowhere/bench.json"], "no folder nowhere"),
        (["extra"], "unexpected extra argument"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], says: str) -> None:
    done = bench(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert says in done.stderr


def test_the_stopwatch_finds_every_phase() -> None:
    code = "from benchmarks.profiled import Stopwatch, install; install(Stopwatch())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_small_benchmarks_are_exact_and_a_wrong_result_fails(stack: Services, tmp_path: Path) -> None:
    report = tmp_path / "bench.json"
    wanted = ["--only", "tumbling", "--only", "ingest-csv", "--records", "30000", "--runs", "1"]
    done = bench(*wanted, "--report", str(report), HEADRACE_POSTGRES_URL=stack.admin_url)
    assert done.returncode == 0, done.stderr
    found = json.loads(report.read_text())
    assert [entry["name"] for entry in found["benchmarks"]] == ["tumbling", "ingest-csv"]
    for entry in found["benchmarks"]:
        assert entry["records"] == 30_000
        assert min(entry[figure] for figure in ("records_per_s", "records_per_cpu_s", "peak_rss_mb")) > 0
        assert len(entry["runs"]) == 1
    assert {"consume", "unpack", "decode", "route", "aggregate", "postgres"} <= found["split"]["parts"].keys()
    assert found["machine"]["cpus"] and found["versions"]["duckdb"] and found["postgres"]["synchronous_commit"]
    with psycopg.connect(stack.admin_url) as db:
        assert db.execute("select count(*) from pg_database where datname like 'bench\\_%'").fetchone() == (0,)

    # One cent too much in what is expected: the worker's table, which is right, must not pass.
    file = stack.home / "bench" / "data" / "bench-orders-30000.expected.parquet"
    sums = parquet.read_table(file)
    cents = sums["cents"].to_pylist()
    parquet.write_table(sums.set_column(3, "cents", pa.array([cents[0] + 1, *cents[1:]])), file)
    done = bench("--only", "tumbling", *wanted[4:], "--no-profile", HEADRACE_POSTGRES_URL=stack.admin_url)
    assert done.returncode == 1
    assert "product_minutes is wrong" in done.stderr
    assert "Traceback" not in done.stderr
