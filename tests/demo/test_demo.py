"""The main job on real input: `headrace demo` interrupted, resumed, used, and run again on its own data."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from cli.demo.expected import NAMES, TABLES
from stack import Home, down, processes

ROOT = Path(__file__).parents[2]
EVENTS = 24_000
PATIENCE = 400.0


class Demo:
    """A `headrace` command of its own home, its output collected while it runs."""

    def __init__(self, env: Mapping[str, str], *arguments: str) -> None:
        command = [sys.executable, "-m", "cli.main", *arguments]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=dict(env), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            with self._news:
                self.lines.append(line)
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def wait_for(self, pattern: str) -> None:
        """Return once a line matches; fails when the command ends before."""

        def seen() -> bool:
            return any(re.search(pattern, line) for line in self.lines)

        with self._news:
            assert self._news.wait_for(lambda: seen() or not self._reader.is_alive(), PATIENCE), self.text
        assert seen(), self.text

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def end(self) -> int:
        """The exit code."""
        try:
            code = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        self._reader.join(10)
        return code

    @property
    def text(self) -> str:
        """Everything it printed."""
        return "".join(self.lines)


@pytest.fixture(scope="module")
def env() -> Iterator[dict[str, str]]:
    """An environment with a home of its own and no address of any existing service."""
    with tempfile.TemporaryDirectory(prefix="headrace-demo-") as name:
        folder = Path(name).resolve()
        folder.chmod(0o755)  # as root, Postgres runs as `nobody` and has to get here
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("HEADRACE_", "DAGSTER_"))}
        yield clean | {
            "PYTHONPATH": str(ROOT),
            "HEADRACE_HOME": str(folder / "home"),
            "HEADRACE_LANDING": str(folder / "landing"),
        }
        down(Home(folder / "home"))


def run(env: Mapping[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        cwd=ROOT,
        env=dict(env),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def nothing_runs(env: Mapping[str, str]) -> bool:
    home = Home(Path(env["HEADRACE_HOME"]))
    return not any(processes.alive(name, home=home) for name in processes.names(home))


def check(report: Mapping[str, Any], *, new: int, foreign: int = 0) -> None:
    assert report["checks"]["names"] == list(NAMES)
    assert (report["checks"]["failed"], report["checks"]["failures"]) == (0, [])
    assert report["produced"] == EVENTS + 12 + foreign == report["in_log"] + report["rejected_lines"]
    assert report["records"] == report["in_log"]
    assert report["new_records"] == new
    assert set(report["tables"]) == set(TABLES)
    for table in TABLES:
        counts = report["tables"][table]
        assert counts["rows"] == counts["expected_rows"] > 0
        entries = [entry for entry in report["accounting"] if entry["table"] == table]
        assert len(entries) == 4
        assert sum(e["consumed"] for e in entries) == report["in_log"] + sum(e["control"] for e in entries)
        assert sum(e["control"] for e in entries) > 0
    assert set(report["dead_letters"]) == {
        "bad_time",
        "empty_value",
        "no_magic_byte",
        "not_finite:orderAmount",
        "require:positive_amount",
        "undecodable",
        "unknown_schema_id",
    }


@pytest.mark.timeout(1_500)
def test_interrupted_resumed_used_and_run_again(env: dict[str, str], tmp_path: Path) -> None:
    made = ("demo", "--events", str(EVENTS), "--days", "2", "--report", str(tmp_path / "demo.json"))

    stopped = Demo(env, *made, "--exit")
    stopped.wait_for(r"ingest: .*(is on its way|launching)")
    stopped.interrupt()
    assert stopped.end() == 130, stopped.text
    assert "Traceback" not in stopped.text and nothing_runs(env), stopped.text

    up = Demo(env, *made)
    up.wait_for("up until Ctrl-C")
    first = json.loads((tmp_path / "demo.json").read_text())
    check(first, new=first["new_records"])
    assert 0 <= first["new_records"] <= first["in_log"], (
        "the interrupted demo may have sent some, or all on a slow machine"
    )
    assert all(address in up.text for address in ("/assets/kafka/order-created-events?view=lineage", "/runs"))
    _look_around(env)
    run(env, "produce", "orders", "--events", "500", "--bad", "4%", "--seed", "9")
    up.interrupt()
    assert up.end() == 0, up.text
    assert nothing_runs(env)

    again = Demo(env, *made, "--exit")
    assert again.end() == 0, again.text
    second = json.loads((tmp_path / "demo.json").read_text())
    check(second, new=0, foreign=500)
    assert second["in_log"] == first["in_log"] + 500
    assert "0 of them new" in again.text and nothing_runs(env)


def _look_around(env: dict[str, str]) -> None:
    """What a user types while the demo is up."""
    status = json.loads(run(env, "status", "--json"))
    assert [worker["pipeline"] for worker in status["workers"] if worker["state"] == "running"] == ["orders"]
    assert status["shard_errors"] == []
    assert sum(entry["records"] or 0 for entry in status["lag"]) == 0
    assert "workers" in run(env, "status")
    letters = json.loads(run(env, "dlq", "list", "--reason", "no_magic_byte", "--json"))
    assert letters["by_reason"]["no_magic_byte"] == 3
    shown = json.loads(run(env, "dlq", "show", str(letters["dead_letters"][0]["record_id"]), "--json"))
    assert shown["payload"]["text"].startswith("order ") and shown["partition"] is not None
    assert len(shown["reasons"]) == 2 and all(r.startswith("no_magic_byte") for r in shown["reasons"].values())
    _replay_one(env)  # the next demo expects it in the tables
    lines = json.loads(run(env, "dlq", "list", "--table", "ingest", "--json"))["dead_letters"]
    assert lines and all(letter["line"] and letter["file_name"] for letter in lines)
    assert "PROBLEM" not in run(env, "doctor")
    assert "no landing files" not in run(env, "ingest", "--all")
    another = subprocess.run(
        [sys.executable, "-m", "cli.main", "demo"], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert another.returncode == 1 and "already" in another.stderr and len(another.stderr.splitlines()) == 1


def _replay_one(env: Mapping[str, str]) -> None:
    """Correct a dead letter by hand."""
    found = json.loads(run(env, "dlq", "list", "--reason", "require:positive_amount", "--json"))["dead_letters"]
    number = str(found[0]["record_id"])
    record = json.loads(run(env, "dlq", "show", number, "--record"))
    file = Path(env["HEADRACE_HOME"]).parent / "order.json"
    file.write_text(json.dumps({**record, "orderAmount": 12.34, "status": "COMPLETED"}))
    said = json.loads(run(env, "dlq", "replay", number, "--edit", str(file), "--yes", "--wait", "--json"))
    assert said["outcomes"] == {"replayed": 2, "refused": 0, "waiting": 0}
