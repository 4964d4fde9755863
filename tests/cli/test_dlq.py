"""Dead letters from the command line: looked at, edited, replayed and dropped, with real workers that die meanwhile."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from ledger import connect, dead_letters
from ledger.dead_letters import DeadLetter
from stream_workers.derive.steps import DeriveStep
from stream_workers.steps import CorrectionStep
from tests.cli.test_errors import ROOT
from tests.stream_workers.conftest import rig
from tests.stream_workers.derive.conftest import derived
from tests.stream_workers.derive.rig import DerivedRig
from tests.stream_workers.harness import Rig
from tests.stream_workers.orders import Message, message

__all__ = ["derived", "rig"]


# One process for all commands of a test: most of a command's time is its start.
ONE_BY_ONE = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from cli.main import main
given, sys.stdin = sys.stdin, io.StringIO()
for line in given:
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = main(json.loads(line))
    print(json.dumps((code, out.getvalue(), err.getvalue())), flush=True)
"""


@dataclass(frozen=True)
class Done:
    """What a command said."""

    returncode: int
    stdout: str
    stderr: str


class Desk:
    """A person at the command line of a pipeline."""

    def __init__(self, rig: Rig, **extra: str) -> None:
        self.rig = rig
        self._shell = subprocess.Popen(
            [sys.executable, "-c", ONE_BY_ONE],
            env=rig.environment(**extra),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str) -> Done:
        assert self._shell.stdin and self._shell.stdout
        self._shell.stdin.write(json.dumps(["dlq", *words]) + "\n")
        self._shell.stdin.flush()
        return Done(*json.loads(self._shell.stdout.readline()))

    def close(self) -> None:
        assert self._shell.stdin
        self._shell.stdin.close()
        self._shell.wait(30)

    def said(self, *words: str, code: int = 0) -> Any:
        done = self.run(*words, "--json")
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)

    def refused(self, *words: str, says: str, code: int = 1) -> None:
        """The command does nothing, and says in one line why."""
        done = self.run(*words)
        assert done.returncode == code, done.stdout + done.stderr
        assert says in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
        assert done.stderr.startswith("headrace: ") and done.stdout == ""

    def listed(self, *words: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.said("list", *words)["dead_letters"]
        return found

    def ids(self, *words: str) -> list[int]:
        return sorted({letter["record_id"] for letter in self.listed(*words)})

    def consumed(self) -> None:
        self.rig.wait(self.rig.done)


@pytest.fixture
def desk(rig: Rig) -> Iterator[Desk]:
    found = Desk(rig)
    try:
        yield found
    finally:
        found.close()


def corrected(rig: Rig, kind: str, order: dict[str, Any]) -> None:
    """The recomputation takes this order in place of the bad record of its kind."""
    (at,) = [i for i, one in enumerate(rig.sent.messages) if one.kind == kind]
    rig.sent.messages[at] = replace(rig.sent.messages[at], kind="good", order=order)


def test_a_bad_record_is_looked_at_edited_and_replayed_once_through_a_kill(
    desk: Desk, tmp_path: Path, seed: int
) -> None:
    rig = desk.rig
    rig.produce(seed, 600, ["negative", "truncated"])
    (bad,) = [m.order for m in rig.sent.messages if m.kind == "negative"]
    assert bad is not None
    worker = rig.start()
    desk.consumed()
    (number,) = desk.ids("--reason", "require:positive_amount")
    shown = desk.said("show", str(number))
    assert {letter["standing"] for letter in shown["decided"]} == {"open"} and len(shown["decided"]) == 2
    record = json.loads(desk.run("show", str(number), "--record").stdout)
    assert record == bad

    edited = {**record, "orderAmount": 12.34, "status": "COMPLETED"}
    file = tmp_path / "order.json"
    file.write_text(json.dumps(edited))
    rig.stop(worker)
    asked = desk.said("replay", str(number), "--edit", str(file), "--yes", "--note", "a sign too many")
    assert asked["asked"] == 2 and asked["left"] == []
    for step in (
        CorrectionStep.COMMITTED,
        CorrectionStep.DECIDED,
    ):  # after the first table's commit, before the second's
        doomed = rig.start(HEADRACE_FAILPOINTS=f"{step.value}:kill")
        rig.wait(lambda: doomed.poll() is not None, alive=False)  # noqa: B023
        assert doomed.returncode == -signal.SIGKILL, rig.logs()
    rig.start()
    rig.wait(lambda: rig.query("select count(*) from ledger.dead_letters where state = 'replayed'") == [(2,)])

    corrected(rig, "negative", edited)
    rig.verify_tables()  # its window was closed long ago
    (first, second) = desk.said("show", str(number))["decided"]
    assert {first["standing"], second["standing"]} == {"replayed"} and first["note"] == "a sign too many"
    counts = {count["reason"]: count for count in desk.said("list")["counts"]}
    assert (counts["require:positive_amount"]["open"], counts["require:positive_amount"]["replayed"]) == (0, 1)
    assert counts["undecodable"]["open"] == 1
    desk.refused("replay", str(number), "--yes", says=f"dead letter {number}: replayed already (asked by ")

    # One that cannot be read is written by hand, and another is as bad as before.
    (torn,) = desk.ids("--state", "open")
    desk.refused("show", str(torn), "--record", says="write one by hand (orderId, customerId,")
    outcome = desk.said("replay", str(torn), "--yes", "--wait", code=1)
    assert outcome["outcomes"] == {"replayed": 0, "refused": 2, "waiting": 0}
    assert "undecodable" in outcome["refused"][0]["refusal"]
    assert desk.ids("--state", "refused") == [torn] and desk.ids("--state", "open") == []
    order = {**bad, "orderId": "by hand", "orderAmount": 7}
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "dlq", "replay", str(torn), "--edit", "-", "--yes", "--wait"],
        env=rig.environment(),
        cwd=ROOT,
        input=json.dumps(order),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and "replayed 2, refused 0, waiting 0" in done.stdout, done.stdout + done.stderr
    corrected(rig, "truncated", order)
    rig.verify_tables()
    assert desk.listed("--state", "open") == []


def test_drops_are_taken_back_and_filters_mean_what_is_open(desk: Desk, seed: int) -> None:
    rig = desk.rig
    rig.produce(seed, 50, ["negative", "no_zone", "early"])
    rig.start()
    desk.consumed()
    everything = desk.ids()
    assert len(everything) == 3
    assert desk.ids("--until", "1h") == [] and desk.ids("--since", "1h") == everything
    assert desk.ids("--since", "2000-01-01", "--topic", rig.topic, "--table", "product_sales") == everything
    assert desk.ids("--topic", "other") == []
    (zone,) = desk.ids("--reason", "no_time_zone")

    done = desk.run("drop", "--reason", "no_time_zone")  # nobody there to answer
    assert done.returncode == 130 and "Drop 1 record (customer_order_totals 1, product_sales 1)?" in done.stderr
    dry = desk.said("drop", "--reason", "no_time_zone", "--dry-run")
    assert dry["dead_letters"] == 2 and dry["by_table"] == {"customer_order_totals": 1, "product_sales": 1}
    assert desk.ids("--state", "dropped") == []
    assert desk.said("drop", "--reason", "no_time_zone", "--yes")["dropped"] == 2
    assert desk.ids("--state", "dropped") == [zone]
    desk.refused("drop", str(zone), "--yes", says="dropped already")
    assert "no dead letter to drop fits" in desk.run("drop", "--reason", "no_time_zone", "--yes").stdout

    # A filter leaves alone what was dropped; its number takes it back, before the worker has seen the drop or after.
    said = desk.said("replay", "--table", "product_sales", "--yes", "--wait", code=1)
    assert said["asked"] == 2 and said["outcomes"]["refused"] == 2
    assert desk.ids("--state", "dropped") == [zone]
    said = desk.said("replay", str(zone), "--yes", "--wait", code=1)
    assert said["outcomes"] == {"replayed": 0, "refused": 2, "waiting": 0}
    assert desk.ids("--state", "refused") == everything and desk.ids("--state", "dropped") == []


def test_nobody_there_to_decide(desk: Desk, seed: int) -> None:
    rig = desk.rig
    rig.produce(seed, 20, ["negative"])
    worker = rig.start()
    desk.consumed()
    rig.stop(worker)
    (number,) = desk.ids()
    done = desk.run("replay", str(number), "--yes", "--wait", "--timeout", "0.5")
    assert done.returncode == 1 and "2 of 2 still wait after 0.5 s" in done.stderr
    assert "no worker of orders runs and no supervisor would start one; run `headrace supervisor run`" in done.stderr
    assert desk.ids("--state", "waiting") == [number]
    desk.refused("replay", str(number), "--yes", says="waits for its worker already")
    desk.refused("drop", str(number), "--yes", says="it can be dropped when that is decided")
    rig.query("insert into ledger.pipelines (pipeline, desired) values ('orders', 'off') returning 1")
    rig.produce(seed + 1, 0, ["negative"])
    rig.start()
    desk.consumed()
    rig.stop(rig.workers[-1])
    (other,) = desk.ids("--state", "open")
    done = desk.run("replay", str(other), "--yes")
    assert done.returncode == 0 and "orders is switched off" in done.stderr
    assert "`headrace worker start orders`" in done.stderr


WRONG: list[tuple[list[str], str, int]] = [
    (["replay", "999"], "no dead letter 999; nothing was done", 1),
    (["drop", "998", "999"], "no dead letter 998, 999", 1),
    (["replay"], "name dead letters by their numbers or by filters", 2),
    (["replay", "NUMBER", "--table", "product_sales"], "here are both, numbers and --table", 2),
    (["drop", "NUMBER", "--since", "1h"], "here are both, numbers and --since", 2),
    (["replay", "NUMBER", "--edit", "nowhere.json"], "nowhere.json", 2),
    (["replay", "--table", "product_sales", "--edit", "GOOD"], "give one number and one file", 2),
    (["replay", "NUMBER", "--edit", "GOOD", "--payload", "GOOD"], "give one number and one file", 2),
    (["replay", "NUMBER", "--edit", "-"], "add --yes", 2),
    (["replay", "NUMBER", "--edit", "BROKEN"], "broken.json is no record of", 1),
    (["replay", "NUMBER", "--edit", "TEXT"], "wrong_type: orderAmount", 1),
    (["replay", "NUMBER", "--edit", "SHORT"], "missing_column: status is not there", 1),
    (["replay", "NUMBER", "--edit", "MISTYPED"], 'no field "oderAmount"; did you mean "orderAmount"?', 1),
    (["replay", "NUMBER", "--edit", "STATUS"], "bad_enum: status", 1),
    (["list", "--since", "yesterday"], '"yesterday" is no moment; write 2026-03-01T10:00', 2),
    (["list", "--state", "odd"], "odd", 2),
    (["replay", "--table", "ingest"], "correct the file and run `headrace ingest`; nothing was done", 1),
    (["show", "999"], "no dead letter 999", 1),
    (["show", "LINE", "--record"], "is a line of a file: correct the file", 1),
]


def test_wrong_commands_are_one_line(desk: Desk, tmp_path: Path, seed: int) -> None:
    rig = desk.rig
    rig.send([message(random.Random(seed), rig.schema_id, 1, "negative")])
    rig.start()
    desk.consumed()
    (number,) = desk.ids()
    line = DeadLetter(rig.topic, "ingest", "wrong_type", file_hash="h", file_name="f.csv", line=7, payload=b"a,b")
    with connect(rig.database) as db:
        dead_letters.record(db, [line])
    good = json.loads(desk.run("show", str(number), "--record").stdout)
    files = {
        "GOOD": json.dumps(good),
        "BROKEN": "{not json",
        "TEXT": json.dumps({**good, "orderAmount": "much"}),
        "SHORT": json.dumps({name: value for name, value in good.items() if name != "status"}),
        "MISTYPED": json.dumps({**good, "oderAmount": 5}),
        "STATUS": json.dumps({**good, "status": "LOST"}),
    }
    paths = {}
    for name, text in files.items():
        paths[name] = str(tmp_path / f"{name.lower()}.json")
        Path(paths[name]).write_text(text)
    (paths["LINE"],) = map(str, desk.ids("--table", "ingest"))
    for words, says, code in WRONG:
        typed = [str(number) if word == "NUMBER" else paths.get(word, word) for word in words]
        if words[0] in ("replay", "drop") and says != "add --yes":
            typed.append("--yes")
        desk.refused(*typed, says=says, code=code)
    assert rig.query("select count(*) from ledger.corrections") == [(0,)]
    assert desk.said("drop", "--table", "ingest", "--yes")["dropped"] == 1


@pytest.fixture
def json_desk(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setenv("TEST_JSON", "1")
    found = Desk(rig)
    try:
        yield found
    finally:
        found.close()


def test_json_topics_keep_fields_that_the_schema_does_not_have(json_desk: Desk, seed: int, tmp_path: Path) -> None:
    desk, rig = json_desk, json_desk.rig
    one = message(random.Random(seed), 0, 1, "negative")
    assert one.order is not None
    rig.send([Message("negative", one.key, json.dumps({**one.order, "coupon": "x"}).encode(), one.order)])
    rig.start()
    desk.consumed()
    (number,) = desk.ids()
    record = json.loads(desk.run("show", str(number), "--record").stdout)
    assert record == {**one.order, "coupon": "x"}
    (tmp_path / "order.json").write_text(json.dumps({**record, "orderAmount": 3.5}, indent=1))
    said = desk.said("replay", str(number), "--edit", str(tmp_path / "order.json"), "--yes", "--wait")
    assert said["outcomes"] == {"replayed": 2, "refused": 0, "waiting": 0}
    corrected(rig, "negative", {**one.order, "orderAmount": 3.5})
    rig.verify_tables()
    ((payload,),) = rig.query("select distinct payload from ledger.corrections")
    assert json.loads(payload) == {**record, "orderAmount": 3.5}


def test_thousands_in_one_command(desk: Desk, seed: int) -> None:
    rig, many = desk.rig, 10_000 if os.environ.get("HEADRACE_SOAK") else 2_200
    rig.produce(seed, 10, ["no_zone"] * many)
    rig.start()
    desk.consumed()
    ids = [number for (number,) in rig.query("select record_id from ledger.dead_letter_records")]
    said = desk.said("drop", *map(str, ids), "--yes")
    assert said["dropped"] == 2 * many
    said = desk.said("replay", "--state", "dropped", "--yes", "--wait", "--timeout", "120", code=1)
    assert said["asked"] == 2 * many
    assert said["outcomes"] == {"replayed": 0, "refused": 2 * many, "waiting": 0}


def test_a_corrected_record_goes_into_derived_topics_once(derived: DerivedRig, seed: int, tmp_path: Path) -> None:
    desk = Desk(derived)
    by_product, large = f"{derived.topic}-by-product", f"{derived.topic}-large"
    try:
        derived.produce(seed, 20, ["negative", "no_zone"])
        worker = derived.derive()
        derived.wait(derived.made)
        told = len(derived.log(f"{derived.topic}-failed"))
        (number,) = desk.ids("--table", large, "--reason", "require:positive_amount")
        record = json.loads(desk.run("show", str(number), "--record").stdout)
        edited = {**record, "orderAmount": 300, "status": "COMPLETED", "quantity": 1}
        (tmp_path / "order.json").write_text(json.dumps(edited))
        derived.stop(worker)
        assert desk.said("replay", str(number), "--edit", str(tmp_path / "order.json"), "--yes")["asked"] == 3
        for step in (DeriveStep.CORRECTIONS_PRODUCED, DeriveStep.CORRECTIONS_COMMITTED):
            doomed = derived.derive(HEADRACE_FAILPOINTS=f"{step.value}:kill")
            derived.wait(lambda: doomed.poll() is not None, alive=False)  # noqa: B023
            assert doomed.returncode == -signal.SIGKILL, derived.logs()
        worker = derived.derive()
        derived.wait(lambda: desk.ids("--state", "replayed") == [number] and desk.ids("--state", "waiting") == [])
        assert {letter["standing"] for letter in desk.said("show", str(number))["decided"]} == {"replayed"}

        def sent(topic: str) -> list[Any]:
            return [value for _, value, _ in derived.values(topic) if value["orderId"] == edited["orderId"]]

        for topic in (by_product, large):
            assert len(sent(topic)) == 1, topic
        assert sent(by_product)[0]["cents"] == 30_000

        # One that is as bad as before is refused, and one that is dropped stays out.
        (zone,) = desk.ids("--reason", "no_time_zone")
        said = desk.said("replay", str(zone), "--yes", "--wait", code=1)
        assert said["outcomes"] == {"replayed": 0, "refused": 3, "waiting": 0}
        assert desk.said("drop", str(zone), "--yes")["dropped"] == 3
        assert len(derived.log(f"{derived.topic}-failed")) == told, "what is refused again is not told again"

        # The ledger is made again from Kafka and the log of corrections; nothing is sent.
        derived.stop(worker)
        derived.command("pipeline", "rebuild", "orders-derived", "--yes")
        derived.derive()
        derived.wait(lambda: derived.made() and len(desk.ids("--state", "replayed")) == 1)
        derived.wait(lambda: len(desk.listed("--state", "dropped")) == 3)
        for topic in (by_product, large):
            assert len(sent(topic)) == 1, topic
    finally:
        desk.close()
