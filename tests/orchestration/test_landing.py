"""The file sensor: decisions over two looks, then real files, a real ledger and a real Dagster instance."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from dagster import (
    AssetSelection,
    DagsterInstance,
    DagsterRunStatus,
    DefaultSensorStatus,
    Definitions,
    RunRequest,
    SensorResult,
    build_sensor_context,
    define_asset_job,
    in_process_executor,
)
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from headrace.errors import ServiceUnavailable, UsageError
from headrace.settings import load
from orchestration import arrivals, code, ingest, keys, landing, topics
from orchestration.arrivals import Look, Memory
from tests.ingestion.conftest import HEADER, order
from topology import EventTime, FileSource, Topic

A, B = (10, 1), (20, 2)
NONE: frozenset[tuple[str, int]] = frozenset()


def looks(*founds: arrivals.Files, busy: bool = False) -> Look:
    """The last of several looks in a row, nothing being completed."""
    one = Look(Memory())
    for found in founds:
        one = arrivals.look(one.memory, found, NONE, busy=busy)
    return one


def test_a_file_counts_when_it_is_unchanged_for_two_looks() -> None:
    assert looks({"a": A}).changing == ("a",)
    assert looks({"a": A}, {"a": A}).request == ("a",)
    assert looks({"a": A}, {"a": (11, 1)}).request == ()
    assert looks({"a": A}, {"a": (10, 9)}).request == (), "touched"
    assert looks({"a": A}, {"a": (11, 1)}, {"a": (11, 1)}).request == ("a",)


def test_nothing_is_asked_for_while_a_file_of_the_topic_changes() -> None:
    growing = looks({"a": A, "b": B}, {"a": A, "b": (21, 3)})
    assert (growing.request, growing.changing, growing.waiting) == ((), ("b",), ("a",))
    assert arrivals.look(growing.memory, {"a": A, "b": (21, 3)}, NONE, busy=False).request == ("a", "b")


def test_a_set_is_asked_for_once_and_a_changed_file_again() -> None:
    asked = looks({"a": A}, {"a": A})
    again = arrivals.look(asked.memory, {"a": A}, NONE, busy=False)
    assert (again.request, again.left) == ((), ("a",))
    assert arrivals.look(again.memory, {"a": A}, NONE, busy=False).request == ()
    fixed = arrivals.look(again.memory, {"a": B}, NONE, busy=False)
    assert fixed.request == () and arrivals.look(fixed.memory, {"a": B}, NONE, busy=False).request == ("a",)
    more = arrivals.look(again.memory, {"a": A, "b": B}, NONE, busy=False)
    more = arrivals.look(more.memory, {"a": A, "b": B}, NONE, busy=False)
    assert (more.request, more.left) == (("b",), ("a",))


def test_completed_and_vanished_files_are_forgotten() -> None:
    asked = looks({"a": A}, {"a": A})
    done = arrivals.look(asked.memory, {"a": A}, {("a", 10)}, busy=False)
    assert done == Look(Memory({}, {}))
    assert looks({"a": A}, {}).memory == Memory({}, {})
    assert arrivals.look(Memory(), {"a": A}, {("a", 11)}, busy=False).changing == ("a",), "another size"


def test_files_wait_for_a_run_that_is_on_its_way() -> None:
    waiting = looks({"a": A}, {"a": A}, busy=True)
    assert (waiting.request, waiting.waiting) == ((), ("a",))
    assert arrivals.look(waiting.memory, {"a": A}, NONE, busy=False).request == ("a",)


def test_the_cursor_keeps_everything_and_a_broken_one_is_empty() -> None:
    memories = {"orders": Memory({"a": A, "b": B}, {"b": B})}
    assert arrivals.load(arrivals.dump(memories)) == memories
    for broken in (None, "", "{", "[]", '{"orders": 1}', '{"orders": {"seen": {"a": [1]}, "requested": {}}}'):
        assert arrivals.load(broken) == {}
    assert arrivals.run_key("t", {"a": A, "b": B}) == arrivals.run_key("t", {"b": B, "a": A})
    assert len({arrivals.run_key(t, f) for t in "tu" for f in ({"a": A}, {"a": B}, {"a": A, "b": B})}) == 6


class Site:
    """A topic with its files, sensor and job; the sensor's cursor is carried along as the daemon does."""

    def __init__(self, folder: Path, topic: str, instance: DagsterInstance) -> None:
        self.folder, self.instance = folder, instance
        self.topic = Topic(topic, "orders/order_created.avsc", "customerId", EventTime("orderTimestamp", "iso8601"), 2)
        self.source = FileSource("test_csv", topic=self.topic, path="orders/*.csv", format="csv")
        self.defs = Definitions(
            assets=[topics.asset(self.topic, [self.source], code.Place(Path(__file__), 1))],
            jobs=[define_asset_job(keys.INGEST, AssetSelection.groups(keys.TOPICS))],
            executor=in_process_executor,
        )
        self.cursor: str | None = None

    def write(self, name: str, *lines: str) -> Path:
        path = self.folder / "orders" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join((HEADER, *lines, "")))
        return path

    def tick(self) -> SensorResult:
        found = landing.tick({self.topic.name: [self.source]}, self.instance, self.cursor, load())
        self.cursor = found.cursor
        return found

    def requests(self) -> list[RunRequest]:
        return list(self.tick().run_requests or [])

    def why(self) -> str:
        found = self.tick()
        assert not found.run_requests
        return str(found.skip_reason.skip_message if found.skip_reason else "")

    def run(self, request: RunRequest) -> bool:
        done = self.defs.resolve_job_def(keys.INGEST).execute_in_process(
            instance=self.instance,
            asset_selection=list(request.asset_selection or []),
            tags=dict(request.tags),
            raise_on_error=False,
        )
        return done.success


@pytest.fixture
def site(
    database: str, topic_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, instance: DagsterInstance
) -> Iterator[Site]:
    monkeypatch.setenv("HEADRACE_LANDING", str(tmp_path))
    yield Site(tmp_path, topic_name, instance)


def test_what_lands_is_ingested_once(site: Site) -> None:
    assert site.why() == "no new files"
    site.write("a.csv", order(1), order(2))
    site.write(".b.csv", order(3))
    (site.folder / "orders" / "folder.csv").mkdir()
    (site.folder / "orders" / "gone.csv").symlink_to(site.folder / "nowhere")
    assert "orders/a.csv still changing, or seen for the first time" in site.why()
    (request,) = site.requests()
    assert request.asset_selection == [keys.topic_key(site.topic.name)]
    assert request.tags[landing.FILES_TAG] == "orders/a.csv"
    (site.folder / "orders" / "folder.csv").rmdir()
    (site.folder / "orders" / "gone.csv").unlink()
    assert site.run(request)
    assert [site.why(), site.why()] == ["no new files"] * 2


def test_a_bad_file_is_tried_once_and_named(site: Site) -> None:
    (site.folder / "orders").mkdir()
    bad = site.folder / "orders" / "bad.csv"
    bad.write_text("orderId,customerId\no1,c1\n")
    site.tick()
    (request,) = site.requests()
    assert not site.run(request)
    for _ in range(3):
        assert "orders/bad.csv not in the topic after the run" in site.why()
    site.write("good.csv", order(1))
    site.tick()
    (second,) = site.requests()
    assert second.run_key != request.run_key and not site.run(second)
    assert "orders/bad.csv not in" in site.why() and "good" not in site.why()
    site.write("bad.csv", order(2))
    site.tick()
    (third,) = site.requests()
    assert site.run(third)
    assert site.why() == "no new files"


@pytest.mark.parametrize("whole_job", [False, True])
def test_nothing_is_asked_for_while_a_run_of_the_topic_is_queued_or_running(site: Site, whole_job: bool) -> None:
    job = site.defs.resolve_job_def(keys.INGEST)
    selection = None if whole_job else frozenset({keys.topic_key(site.topic.name)})
    place = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("headrace"), "__repository__")
    run = site.instance.create_run_for_job(
        job,
        asset_selection=selection,
        status=DagsterRunStatus.QUEUED,
        remote_job_origin=RemoteJobOrigin(place, keys.INGEST),
    )
    site.write("a.csv", order(1))
    site.tick()
    assert "a run is on its way already" in site.why()
    site.instance.report_run_canceled(run)
    assert len(site.requests()) == 1


def test_without_postgres_or_folder_a_tick_is_one_line(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="landing folder"):
        landing.tick(
            {site.topic.name: [site.source]},
            site.instance,
            None,
            load().model_copy(update={"landing": site.folder / "none"}),
        )
    monkeypatch.setenv("HEADRACE_POSTGRES_URL", "postgresql://nobody@127.0.0.1:9/none")
    with pytest.raises(ServiceUnavailable):
        site.tick()
    found = landing._sensor({site.topic.name: [site.source]})
    assert found.default_status == DefaultSensorStatus.RUNNING and found.minimum_interval_seconds == 10
    skipped = found(build_sensor_context(instance=site.instance))
    assert isinstance(skipped, SensorResult) and skipped.skip_reason
    assert "Postgres does not answer" in (skipped.skip_reason.skip_message or "")
    assert "\n" not in (skipped.skip_reason.skip_message or "") and skipped.cursor is None


def test_a_run_that_nobody_watches_waits_for_kafka(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    monkeypatch.setattr(ingest, "_PAUSES", (0.1, 0.1))

    def down(*_: object) -> None:
        tried.append(1)
        raise ServiceUnavailable("Kafka is down")

    monkeypatch.setattr(ingest, "_materialize", down)
    request = RunRequest(asset_selection=[keys.topic_key(site.topic.name)], tags={landing.FILES_TAG: "a.csv"})
    assert not site.run(request) and len(tried) == 3
    tried.clear()
    assert not site.run(RunRequest(asset_selection=request.asset_selection)) and len(tried) == 1, (
        "a person sees the error at once"
    )


def test_the_same_name_is_completed_only_with_the_same_size(site: Site) -> None:
    path = site.write("a.csv", order(1))
    site.tick()
    (request,) = site.requests()
    assert site.run(request) and site.why() == "no new files"
    site.write("a.csv", order(1), order(2))
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))
    assert "orders/a.csv still changing" in site.why() and len(site.requests()) == 1


def test_no_ledger_yet_means_nothing_is_completed(site: Site) -> None:
    with psycopg.connect(os.environ["HEADRACE_POSTGRES_URL"]) as db:
        db.execute("drop schema ledger cascade")
    assert landing.completed([site.topic.name], load()) == {}
