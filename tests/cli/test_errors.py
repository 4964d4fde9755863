"""Whatever goes wrong in a command is one line that says what to do; a traceback only when asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("confluent_kafka", "psycopg", "duckdb", "pyarrow", "dagster", "sqlalchemy", "rich", "pydantic", "requests")


def headrace(*arguments: str, cwd: Path = ROOT, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("HEADRACE_")}
    clean |= {"PYTHONPATH": str(ROOT), "HEADRACE_HOME": os.environ["HEADRACE_HOME"] + "/nothing", **(env or {})}
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments], cwd=cwd, env=clean, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["bogus"], "No such command 'bogus'"),
        (["up", "--bogus"], "headrace up --help"),
        (["up", "--only", "mysql"], "mysql"),
        (["worker", "run"], "Missing argument 'PIPELINE'"),
        (["produce", "orders"], "--events"),
        (["produce", "orders", "--events", "0"], "--events"),
        (["produce", "orders", "--events", "5", "--bad", "lots"], "write 1% or 0.01"),
        (["produce", "orders", "--events", "5", "--bad", "101%"], "between 0% and 100%"),
        (["demo", "--report", "/"], "--report"),
        (["demo", "--report", "/nonexistent/folder/demo.json", "--exit"], "/nonexistent/folder"),
        (["dlq", "show", "x"], "RECORD_ID"),
        (["worker", "run", "nope"], "there is: orders"),
        (["worker", "stop", "nope"], "there is: orders"),
        (["worker", "start", "nope"], "there is: orders"),
        (["worker", "release", "nope"], "there is: orders"),
        (["worker", "stop"], "Missing argument 'PIPELINE'"),
        (["worker", "stop", "orders", "--for", "long"], "write a number and a unit"),
        (["worker", "stop", "orders", "--for", "0s"], "between 1 s and 30 days"),
        (["worker", "start", "orders", "--for", "31 days"], "between 1 s and 30 days"),
        (["worker", "stop", "orders", "--timeout", "-1"], "--timeout"),
        (["ingest"], "--all"),
        (["ingest", "nope"], "orders_csv"),
        (["ingest", "orders_csv", "--all"], "--all"),
        (["status"], "headrace up"),
        (["provision"], "headrace up"),
        (["dlq", "list"], "headrace up"),
    ],
)
def test_wrong_use_is_one_line_with_a_remedy(arguments: list[str], says: str) -> None:
    done = headrace(*arguments)
    assert done.returncode in (1, 2)
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("headrace: "), done.stderr


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HEADRACE_WORKERS", "many"),
        ("HEADRACE_LOG_LEVEL", "LOUD"),
        ("HEADRACE_KAFKA_CONFIG", "{not json"),
        ("HEADRACE_POSTGRES_URL", "mysql://x"),
        ("HEADRACE_POSTGRES_URL", "postgresql://u:geheim@127.0.0.1:9/db"),
        ("HEADRACE_POSTGRES_URL", "postgres//u:geheim@127.0.0.1/db"),
        ("HEADRACE_POSTGRES_URL", "u:geheim@127.0.0.1/db"),
    ],
)
def test_a_bad_setting_is_one_line_without_secrets(variable: str, value: str) -> None:
    done = headrace("status", env={variable: value})
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("headrace: "), done.stderr
    assert "geheim" not in done.stderr + done.stdout


def test_a_wrong_declaration_is_one_line(tmp_path: Path) -> None:
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "sales.py").write_text(
        (ROOT / "assets" / "orders.py").read_text().replace("orderAmount > 0", "amount > 0")
    )
    done = headrace("validate", cwd=tmp_path, env={"HEADRACE_CATALOG": "shop"})
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1 and "amount" in done.stderr and "sales.py" in done.stderr, done.stderr


def test_an_unexpected_error_is_one_line_and_a_traceback_on_request(tmp_path: Path) -> None:
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").touch()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "endpoints.json").mkdir()  # a folder where a file belongs
    done = headrace("status", env={"HEADRACE_HOME": str(tmp_path / "home")})
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    done = headrace("--debug", "status", env={"HEADRACE_HOME": str(tmp_path / "home")})
    assert done.returncode != 0 and "Traceback" in done.stderr


def test_help_needs_nothing_heavy() -> None:
    probe = f"""
import json, sys
from cli.main import main
assert main(["--help"]) == 0
print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_output_into_a_closed_pipe_is_no_error() -> None:
    command = f"{sys.executable} -m cli.main validate --json | true"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr


def test_validate_for_machines() -> None:
    found = json.loads(headrace("validate", "--json").stdout)
    assert found["pipelines"] == {"orders": ["customer_order_totals", "product_sales"]}
