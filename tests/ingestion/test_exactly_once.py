"""Every row once and every rejected line once, whatever is killed, stopped, restarted or restored in between."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable

import psycopg
import pytest
from confluent_kafka import Message
from confluent_kafka.admin import AdminClient

from headrace.deadline import Deadline
from headrace.errors import LedgerBehindKafka, OffsetError, ServiceUnavailable
from headrace.failpoint import FailpointError, Failpoints
from ingestion.errors import FileError
from ingestion.failpoints import IngestStep
from ingestion.ingest import ingest
from schemas.markers import END_OF_INPUT, EVENT_TIME_HEADER, MARKER_HEADER
from tests.conftest import Services
from tests.ingestion import child
from tests.ingestion.conftest import HEADER, Site, headers, order

Read = Callable[[Site], list[Message]]

ROWS = 180  # four transactions of 50
BAD = {20: "quantity", 49: "status", 50: "quantity", 51: "status", 120: "quantity", 179: "status"}
ONCE = {IngestStep.REGISTERED, IngestStep.INITIALISED, IngestStep.RECONCILED, IngestStep.COMPLETED}
VISITS = [(step, visit) for step in IngestStep for visit in ((1,) if step in ONCE else (1, 4))]


def write(site: Site) -> None:
    site.write("a.csv", HEADER, *(order(n, **({BAD[n]: "bad"} if n in BAD else {})) for n in range(ROWS)))


def check(site: Site, read: Read) -> None:
    """The topic and the ledger hold the file, once."""
    lines: Counter[int] = Counter()
    markers: Counter[int] = Counter()
    for message in read(site):
        found = headers(message)
        if message.value() is None:
            assert found[MARKER_HEADER] == END_OF_INPUT
            assert found[EVENT_TIME_HEADER] == b"1767312178000000"  # 2026-01-02T00:02:58Z, the last good row's
            markers[message.partition() or 0] += 1
        else:
            assert found["file"] == b"a.csv"
            assert not markers[message.partition() or 0], "a record after the marker"
            lines[int(found["line"])] += 1
    assert lines == {number + 2: 1 for number in range(ROWS) if number not in BAD}
    assert markers == dict.fromkeys(range(site.topic.partitions), 1)
    with psycopg.connect(site.settings.need_postgres()) as db:
        letters = db.execute(
            "select r.line, d.reason from ledger.dead_letters d join ledger.dead_letter_records r using (record_id) "
            "where table_version = 'ingest' and topic = %s order by 1",
            [site.topic.name],
        ).fetchall()
        assert letters == [(n + 2, "wrong_type" if kind == "quantity" else "bad_enum") for n, kind in BAD.items()]
        row = db.execute("select position, next_position, produced, rejected, state from ledger.files").fetchone()
        assert row == (ROWS, ROWS, ROWS - len(BAD), len(BAD), "completed")


@pytest.mark.parametrize(("step", "visit"), VISITS, ids=[f"{step.value}-{visit}" for step, visit in VISITS])
def test_killed_between_any_two_steps(site: Site, read: Read, step: IngestStep, visit: int) -> None:
    write(site)
    process = child.start(site, f"{step.value}:kill:{visit}")
    process.join()
    assert process.exitcode == -signal.SIGKILL
    report = ingest(site.csv, site.with_settings(transaction_records=37).settings)
    assert (report.produced, report.rejected) == (ROWS - len(BAD), len(BAD))
    check(site, read)
    again = ingest(site.csv, site.settings)
    assert again.files[0].skipped
    assert again.new_records == 0
    check(site, read)


def test_killed_again_and_again(site: Site, read: Read) -> None:
    write(site)
    kills = 0
    for step, visit in VISITS:
        process = child.start(site, f"{step.value}:kill:{min(visit, 2)}")
        process.join()
        kills += process.exitcode == -signal.SIGKILL
    assert kills > 5
    ingest(site.csv, site.settings)
    check(site, read)


@pytest.mark.parametrize(
    ("step", "end"),
    [
        (IngestStep.INTENDED, child.REFUSED),  # Kafka fences it
        (IngestStep.POSITIONED, child.REFUSED),
        (IngestStep.COMMITTED, 0),  # its ledger connection is gone; it begins anew and finds the file complete
    ],
)
def test_a_stopped_process_wakes_up_after_another_has_finished(
    site: Site, read: Read, step: IngestStep, end: int
) -> None:
    write(site)
    process = child.start(site, f"{step.value}:stop:2")
    assert process.pid
    _until_stopped(process.pid)
    with pytest.raises(ServiceUnavailable, match="another process is ingesting"):
        ingest(site.csv, site.settings)
    with psycopg.connect(site.settings.need_postgres(), autocommit=True) as db:  # as a failover would
        db.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'headrace ingest'")
    ingest(site.csv, site.settings)
    os.kill(process.pid, signal.SIGCONT)
    process.join()
    assert process.exitcode == end
    check(site, read)


def _until_stopped(pid: int) -> None:
    import psutil

    deadline = Deadline.after(180)
    while psutil.Process(pid).status() != psutil.STATUS_STOPPED:
        assert not deadline.passed()
        time.sleep(0.02)


def test_an_older_ledger_is_found(site: Site, read: Read) -> None:
    write(site)
    ingest(site.csv, site.settings)
    for statement in (
        "update ledger.files set state = 'started', position = 50, next_position = 100",
        "delete from ledger.files",
    ):
        with psycopg.connect(site.settings.need_postgres()) as db:
            db.execute(statement)
        with pytest.raises(LedgerBehindKafka, match="restored to an older state"):
            ingest(site.csv, site.settings)
    assert len(read(site)) == ROWS - len(BAD) + site.topic.partitions


def test_a_kafka_that_forgot_is_found(site: Site, read: Read, kafka_admin: AdminClient) -> None:
    write(site)
    with pytest.raises(FailpointError):
        ingest(site.csv, site.settings, failpoints=Failpoints("mirrored:raise:2"))
    with psycopg.connect(site.settings.need_postgres()) as db:
        ((group,),) = db.execute("select group_id from ledger.files").fetchall()
    kafka_admin.delete_consumer_groups([group])[group].result(30)
    with pytest.raises(OffsetError, match="Kafka forgot it"):
        ingest(site.csv, site.settings)
    assert len(read(site)) == 100 - sum(n < 100 for n in BAD)


@pytest.mark.parametrize("step", [IngestStep.COMMITTED, IngestStep.INTENDED])
def test_a_first_intent_is_carried_out_again_only_while_kafka_must_remember(
    site: Site, read: Read, kafka_admin: AdminClient, step: IngestStep
) -> None:
    """An offset that expired looks like a transaction that never was."""
    write(site)
    with pytest.raises(FailpointError):
        ingest(site.csv, site.settings, failpoints=Failpoints(f"{step.value}:raise:1"))
    with psycopg.connect(site.settings.need_postgres()) as db:
        db.execute("update ledger.files set started_at = now() - interval '25 hours'")
        ((group, before),) = db.execute("select group_id, intended_at from ledger.files").fetchall()
    assert before is not None
    if step is IngestStep.INTENDED:  # intended a moment ago, and Kafka has nothing: it never was
        ingest(site.csv, site.settings)
        check(site, read)
        return
    kafka_admin.delete_consumer_groups([group])[group].result(30)  # as Kafka does after offsets.retention.minutes
    with psycopg.connect(site.settings.need_postgres()) as db:
        db.execute("update ledger.files set intended_at = now() - interval '25 hours'")
    for _ in range(2):
        with pytest.raises(OffsetError, match=r"an intent up to 50 .*headrace ingest --forget"):
            ingest(site.csv, site.settings)
    assert len(read(site)) == 50 - sum(n < 50 for n in BAD)


def test_a_completed_file_needs_nothing_from_kafka(site: Site, kafka_admin: AdminClient) -> None:
    write(site)
    ingest(site.csv, site.settings)
    with psycopg.connect(site.settings.need_postgres()) as db:
        ((group,),) = db.execute("select group_id from ledger.files").fetchall()
    kafka_admin.delete_consumer_groups([group])[group].result(30)  # as Kafka does after seven days
    assert ingest(site.csv, site.settings).files[0].skipped


@pytest.mark.parametrize("change", ["append", "unlink", "replace"])
def test_a_file_that_changes_while_it_is_read(site: Site, read: Read, change: str) -> None:
    write(site)
    path = site.landing / "a.csv"
    before = path.read_bytes()

    def alter() -> None:
        if change == "append":
            with path.open("ab") as file:
                file.write(b"more\n")
        else:
            path.unlink()
            if change == "replace":
                path.write_bytes(before)

    points = Failpoints("produced:alter:3")
    points.on("alter", alter)
    with pytest.raises(FileError, match=r"a\.csv: the file (changed|vanished) while it was read") as caught:
        ingest(site.csv, site.settings, failpoints=points)
    assert "\n" not in str(caught.value)
    assert len(read(site)) == 100 - sum(n < 100 for n in BAD)
    path.write_bytes(before)
    ingest(site.csv, site.settings)
    check(site, read)


@pytest.mark.skipif(os.environ.get("HEADRACE_TEST_USE") == "existing", reason="the services are not ours to restart")
def test_the_registry_has_lost_its_connections(site: Site, read: Read, stack: Services) -> None:
    ingest(site.csv, site.settings)  # the registry holds connections to Postgres now
    write(site)
    stack.postgres.restart(crash=True)
    ingest(site.csv, site.settings)
    check(site, read)


@pytest.mark.skipif(os.environ.get("HEADRACE_TEST_USE") == "existing", reason="the services are not ours to restart")
@pytest.mark.parametrize(
    ("service", "step"),
    [
        ("kafka", IngestStep.PRODUCED),
        pytest.param("kafka", IngestStep.POSITIONED, marks=pytest.mark.soak),
        pytest.param("kafka", IngestStep.COMMITTED, marks=pytest.mark.soak),
        ("postgres", IngestStep.INTENDED),
        ("postgres", IngestStep.COMMITTED),
    ],
)
def test_a_service_restarts(site: Site, read: Read, stack: Services, service: str, step: IngestStep) -> None:
    write(site)
    points = Failpoints(f"{step.value}:restart:2")
    points.on("restart", lambda: getattr(stack, service).restart(crash=True))
    report = ingest(site.csv, site.settings, failpoints=points)
    assert report.new_records == ROWS - len(BAD)
    check(site, read)
