"""`recount`: an independent reader against the ledger, on a log with aborted transactions, markers and bad records."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from dagster import AssetCheckEvaluation, AssetCheckKey, AssetCheckSeverity, DagsterInstance, Definitions

from headrace.clock import SystemClock
from headrace.errors import HeadraceError, LogTruncated, PartitionsChanged, ServiceUnavailable, TopicRecreated
from headrace.settings import load
from ledger.counted import Counted, Tail
from orchestration import code, keys, recount, recount_checks, recounting, tables
from orchestration.recount import Delivered
from orchestration.recounting import Compared, Finding, NothingToRecount, check, examine, floors
from tests.conftest import Services
from tests.orchestration import pipeline
from tests.orchestration.pipeline import TABLES
from tests.stream_workers.harness import Rig
from tests.stream_workers.orders import BAD


def position(partition: int, first: int, following: int, tail: Tail | None = None) -> Counted:
    return Counted("t", "t@1", "id", partition, first, following, following - first, 0, 0, tail)


def test_floors_are_what_the_log_has_and_the_bound_allows() -> None:
    found = [position(0, 0, 900), position(1, 0, 100)]
    bounds = {0: (0, 1000), 1: (0, 100)}
    assert floors(found, bounds, 10_000) == {0: 0, 1: 0}
    assert floors(found, bounds, 500) == {0: 450, 1: 50}
    assert floors(found, {0: (700, 1000), 1: (0, 100)}, 500) == {0: 700, 1: 50}
    assert floors([position(0, 5, 5)], bounds, 1) == {0: 5}
    assert floors([position(9, 0, 5)], bounds, 1) == {}


def test_positions_that_cannot_belong_to_the_log_are_refused_in_one_line() -> None:
    bounds = {0: (0, 10)}
    check("t", "orders", [position(0, 0, 10)], "id", bounds)
    for kind, positions, topic_id in (
        (NothingToRecount, [], "id"),
        (TopicRecreated, [position(0, 0, 10)], "other"),
        (PartitionsChanged, [position(3, 0, 10)], "id"),
        (LogTruncated, [position(0, 0, 11)], "id"),
    ):
        with pytest.raises(kind) as failed:
            check("t", "orders", positions, topic_id, bounds)
        assert "\n" not in str(failed.value) and "headrace " in str(failed.value)


def test_a_range_is_compared_from_the_start_or_from_a_batch_index_entry() -> None:
    assert recounting._plan(position(0, 5, 50), 3).whole
    tail = recounting._plan(position(0, 0, 50, Tail(30, 50, 18)), 20)
    assert (tail.first, tail.next, tail.consumed, tail.control, tail.whole) == (30, 50, 18, None, False)
    assert recounting._plan(position(0, 0, 50), 20).found is None, "no entry begins at or after the floor"
    assert recounting._plan(position(0, 0, 50, Tail(10, 50, 40)), 20).found is None


def test_a_difference_fails_and_nothing_left_is_only_a_warning() -> None:
    equal = Compared(0, 0, 10, 8, 1, Delivered(8, 1), True)
    other = Compared(1, 0, 10, 8, 1, Delivered(8, 2), True)
    gone = Compared(2, 10, 10, 0, None, None, False)
    good = recount_checks._result("t", "orders", Finding((equal,), 1.0, 8))
    assert good.passed and good.metadata["records"].value == 8
    bad = recount_checks._result("t", "orders", Finding((equal, other, gone), 1.0, 16))
    assert not bad.passed and bad.severity == AssetCheckSeverity.ERROR
    assert "orders[1]" in (bad.description or "") and "**NO**" in str(bad.metadata["per partition"].value)
    none = recount_checks._result("t", "orders", Finding((equal, gone), 1.0, 8))
    assert not none.passed and none.severity == AssetCheckSeverity.WARN
    assert "partitions 2" in (none.description or "")


def test_no_kafka_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recount, "_ANSWER_SECONDS", 1.0)
    nobody = {"bootstrap.servers": "127.0.0.1:9"}
    for ask in (lambda: recount.topic_id(nobody, "orders"), lambda: recount.ends(nobody, "orders", patience=0.5)):
        with pytest.raises(ServiceUnavailable, match="headrace doctor") as failed:
            ask()
        assert "\n" not in str(failed.value)


class Hurrying(SystemClock):
    """Eleven seconds later at every look."""

    def __init__(self) -> None:
        self._looks = 0

    def monotonic(self) -> float:
        self._looks += 1
        return self._looks * 11.0


def found(topic: str, bound: int | None = None) -> dict[str, Finding]:
    settings = load().model_copy(update={"recount_records": bound} if bound else {})
    results = examine(settings, topic, TABLES, lambda line: None)
    findings = {table: one for table, one in results.items() if isinstance(one, Finding)}
    assert set(findings) == set(TABLES), results
    return findings


def counted(finding: Finding) -> tuple[int, int]:
    got = [one.found for one in finding.partitions if one.found]
    return sum(one.records for one in got), sum(one.markers for one in got)


def test_recount_of_a_real_log(
    stack: Services, database: str, topic_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pipeline.running(stack, database, f"{topic_name}-orders", tmp_path) as rig:
        with pytest.raises(HeadraceError, match=f"topic {topic_name} does not exist"):
            examine(load(), topic_name, TABLES, lambda line: None)
        unread = examine(load(), rig.topic, TABLES, lambda line: None)
        assert all(isinstance(one, NothingToRecount) for one in unread.values())

        rig.produce(1, 3_000, [*BAD] * 3, per_transaction=200)
        rig.mark_end(1_772_500_000_000_000)
        pipeline.consume(rig)
        rig.produce(2, 700, per_transaction=100)
        pipeline.consume(rig)

        lines: list[str] = []
        examine(load(), rig.topic, TABLES, lines.append, Hurrying())
        assert lines and "records/s" in lines[0]
        for finding in found(rig.topic).values():
            assert not finding.differing and not finding.unread
            assert counted(finding) == (len(rig.sent.messages) + rig.markers, rig.markers)
            assert all(one.whole and one.gaps[0] == one.gaps[1] for one in finding.partitions)
            assert sum(one.gaps[0] for one in finding.partitions) > 0, "transactions were aborted"

        for finding in found(rig.topic, bound=2_000).values():
            assert not finding.differing and not finding.unread
            assert counted(finding) == (700, 0), "the tail that the second worker read"
            assert not any(one.whole for one in finding.partitions)

        for finding in found(rig.topic, bound=100).values():
            assert len(finding.unread) == 2 and finding.read == 0, "less than one entry: nothing is read"

        _run_the_job(rig, monkeypatch)

        tail = found(rig.topic, bound=2_000)[TABLES[0]].partitions
        rig.admin.delete_records([TopicPartition(rig.topic, one.partition, one.first - 7) for one in tail])[
            TopicPartition(rig.topic, 0)
        ].result()
        for finding in found(rig.topic).values():
            assert counted(finding) == (700, 0) and not finding.differing, "retention removed the first part"

        ends = rig.ends()
        rig.admin.delete_records([TopicPartition(rig.topic, 0, ends[0])])[TopicPartition(rig.topic, 0)].result()
        assert all([one.partition for one in f.unread] == [0] for f in found(rig.topic).values())


def test_a_worker_that_goes_on_while_the_log_is_looked_at_truncates_nothing(
    stack: Services, database: str, topic_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = recount.ends

    with pipeline.running(stack, database, f"{topic_name}-orders", tmp_path) as rig:
        rig.produce(1, 200)
        pipeline.consume(rig)

        def slowly(config: Mapping[str, Any], topic: str) -> dict[int, tuple[int, int]]:
            bounds = look(config, topic)
            rig.produce(2, 200)
            pipeline.consume(rig)
            return bounds

        monkeypatch.setattr(recount, "ends", slowly)
        for finding in found(rig.topic).values():
            assert not finding.differing and not finding.unread
            assert counted(finding) == (400, 0)


def _run_the_job(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check as Dagster runs it: green, then red for the one table whose position lies."""
    catalog = pipeline.catalog(rig, monkeypatch)
    defs = Definitions(
        assets=[tables.asset(table, "orders", code.Place(Path(__file__), 1)) for table in catalog.tables.values()],
        asset_checks=recount_checks.checks(catalog),
        jobs=recount_checks.jobs(catalog),
        schedules=recount_checks.schedules(catalog),
    )
    assert defs.resolve_schedule_def("recount_nightly").job_name == "recount"
    first = _evaluations(defs)
    assert {key.asset_key.path[-1] for key in first} == set(TABLES)
    assert all(one.passed and one.metadata["complete"].value == "from the first offset" for one in first.values())

    lie = (
        "update ledger.positions set consumed = consumed + 1, applied = applied + 1, gaps = gaps - 1"
        " where partition = 1 and table_version like 'product_sales@%%' returning 1"
    )
    assert rig.query(lie)
    second = _evaluations(defs)
    wrong = second[AssetCheckKey(keys.table_key("product_sales"), "recount")]
    assert not wrong.passed and wrong.severity == AssetCheckSeverity.ERROR
    assert f"{rig.topic}[1]" in (wrong.description or "")
    assert second[AssetCheckKey(keys.table_key("customer_order_totals"), "recount")].passed
    rig.query(lie.replace("+ 1", "- 1").replace("gaps - 1", "gaps + 1"))

    monkeypatch.setenv("HEADRACE_POSTGRES_URL", "postgresql://nobody@127.0.0.1:9/none")
    for down in _evaluations(defs).values():
        assert not down.passed and "Postgres does not answer" in (down.description or "")
    monkeypatch.setenv("HEADRACE_POSTGRES_URL", rig.database)


def _evaluations(defs: Definitions) -> dict[AssetCheckKey, AssetCheckEvaluation]:
    with DagsterInstance.ephemeral() as instance:
        done = defs.resolve_job_def("recount").execute_in_process(instance=instance, raise_on_error=False)
        return {one.asset_check_key: one for one in done.get_asset_check_evaluations()}
