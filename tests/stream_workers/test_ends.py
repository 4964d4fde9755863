"""Lag of what no worker reads: the supervisor sees the ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest

from headrace.settings import load
from ledger import connect, ends, reports
from stream_workers.ends import Ends
from tests import fresh
from tests.stream_workers.harness import Rig
from tests.stream_workers.supervised import Supervised
from topology.program import PipelineProgram


def lag(rig: Rig) -> list[reports.Lag]:
    return reports.lag(reports.engine(rig.database))


def records(rig: Rig) -> int:
    return sum(one.records or 0 for one in lag(rig))


def oldest(rig: Rig, since: dict[int, int]) -> dict[int, float]:
    """Kafka timestamp (seconds) of the first committed record at or after these offsets, by a reader of the test's."""
    from confluent_kafka import TopicPartition

    reader = rig._reader()
    found: dict[int, float] = {}
    ended: set[int] = set()
    reader.assign([TopicPartition(rig.topic, p, offset) for p, offset in since.items()])
    while len(ended) < len(since):
        for message in reader.consume(1000, 1.0):
            partition = message.partition()
            assert partition is not None
            if message.error() is not None:
                ended.add(partition)
            else:
                found.setdefault(partition, message.timestamp()[1] / 1000)
    reader.close()
    return found


def dates(rig: Rig) -> dict[int, float]:
    rows = rig.query("select partition, extract(epoch from next_timestamp)::float8 from ledger.ends")
    return {partition: date for partition, date in rows if date is not None}


def test_lag_of_a_pipeline_that_is_off_grows_and_goes_away(supervised: Supervised, rig: Rig, seed: int) -> None:
    rig.query("insert into ledger.pipelines (pipeline, desired) values ('orders', 'off') returning 1")
    rig.produce(seed, 300)  # nobody has ever read it: lag counts from the first kept record
    supervised.start()
    supervised.wait(lambda: records(rig) == sum(rig.ends().values()))
    first = oldest(rig, dict.fromkeys(range(rig.partitions), 0))
    supervised.wait(lambda: dates(rig) == pytest.approx(first))
    assert {one.next_offset for one in lag(rig)} == {0}
    before = {one.partition: one.seconds for one in lag(rig)}
    for one in lag(rig):
        assert one.seconds is not None
        assert one.seconds == pytest.approx(time.time() - first[one.partition], abs=5)
        assert one.seconds > (before[one.partition] or 0)
    assert not rig.query("select * from ledger.workers") and not rig.query("select * from ledger.positions")

    rig.query("update ledger.pipelines set desired = 'on' returning 1")
    supervised.wait(rig.done)
    supervised.wait(lambda: records(rig) == 0)
    rig.query("update ledger.pipelines set desired = 'off' returning 1")
    supervised.wait(lambda: not supervised.workers())
    at = dict(rig.query("select partition, min(next_offset) from ledger.positions group by 1"))
    for count in (1, 2):
        rig.produce(seed + count, 200)
        supervised.wait(lambda: records(rig) == sum(end - at[p] for p, end in rig.ends().items()))
    second = oldest(rig, at)
    supervised.wait(lambda: dates(rig) == pytest.approx(second))
    assert all(one.seconds is not None and one.seconds < 60 for one in lag(rig))

    rig.query("update ledger.pipelines set desired = 'on' returning 1")
    supervised.wait(lambda: rig.done() and records(rig) == 0)
    supervised.wait(lambda: [one.seconds for one in lag(rig)] == [None] * rig.partitions)
    rig.verify()


@pytest.fixture
def programs(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, PipelineProgram]]:
    """The pipeline of the rig as this process sees it."""
    monkeypatch.setenv("TEST_TOPIC", rig.topic)
    yield dict(fresh.load().pipelines)


def test_what_no_record_follows_has_no_date_and_what_a_worker_reads_is_left_alone(
    rig: Rig, programs: dict[str, PipelineProgram]
) -> None:
    looking = Ends(programs, load(), threading.Event())
    with connect(rig.database) as db:
        looking.look(db)
        assert [(one.next_offset, one.records, one.seconds) for one in lag(rig)] == [(0, 0, None)] * 4
        producer = rig._producer()
        producer.begin_transaction()
        producer.produce(rig.topic, b"x", b"k", partition=2)
        producer.flush()
        producer.abort_transaction()

        def seen_at_last(records: int) -> reports.Lag:
            """Kafka writes its markers a moment after a transaction is over."""

            def look() -> bool:
                looking.look(db)
                return all((one.records or 0) >= records for one in lag(rig) if one.partition == 2)

            rig.wait(look, alive=False)
            return next(one for one in lag(rig) if one.partition == 2)

        aborted = seen_at_last(2)
        assert (aborted.records, aborted.seconds) == (2, None)  # offsets that hold nothing to read
        rig.mark_end(0)
        waiting = seen_at_last(4)
        assert waiting.records == 4 and waiting.seconds is not None
        rig.wait(lambda: rig.ends() == {0: 2, 1: 2, 2: 4, 3: 2}, alive=False)

        db.execute(
            "insert into ledger.workers (worker, pipeline, host, pid, process_start, state, shards)"
            " values ('w', 'orders', 'h', 1, 0, 'running', '{0,1}')"
        )
        for partition in range(4):
            ends.see_end(db, "orders", rig.topic, partition, 1000, 5.0)
        looking.look(db)
        seen = dict(rig.query("select partition, end_offset from ledger.ends"))
        assert (seen[0], seen[1]) == (1000, 1000) and seen[2] == 4 and seen[3] == 2


def test_a_date_that_cannot_be_read_stays_what_it_was(
    rig: Rig, programs: dict[str, PipelineProgram], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.produce(seed, 100)
    monkeypatch.setattr("stream_workers.ends._READ_SECONDS", 0.0)
    with connect(rig.database) as db:
        for partition in range(4):
            ends.see_end(db, "orders", rig.topic, partition, 0, 1_700_000_000.0)
        Ends(programs, load(), threading.Event()).look(db)
        assert dates(rig) == dict.fromkeys(range(4), 1_700_000_000.0)
        monkeypatch.setattr("stream_workers.ends._READ_SECONDS", 20.0)
        Ends(programs, load(), threading.Event()).look(db)
        assert dates(rig) == pytest.approx(oldest(rig, dict.fromkeys(range(4), 0)))


def test_kafka_away_or_topic_missing_is_one_line(
    rig: Rig, programs: dict[str, PipelineProgram], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(rig.database) as db:
        monkeypatch.setattr("stream_workers.log._TIMEOUT", 0.3)
        gone = Ends(programs, load().model_copy(update={"kafka_bootstrap": "127.0.0.1:9"}), threading.Event())
        for _ in range(2):
            gone.look(db)
        lines = [line.getMessage() for line in caplog.records]
        assert len(lines) == 1 and "Kafka does not answer" in lines[0] and "orders" in lines[0]
        caplog.clear()
        rig.delete_topic()
        missing = Ends(programs, load(), threading.Event())
        deadline = time.monotonic() + 20
        monkeypatch.setattr("stream_workers.log._TIMEOUT", 5.0)
        while not any("does not exist" in line.getMessage() for line in caplog.records):
            assert time.monotonic() < deadline
            missing.look(db)
        assert lag(rig) == []
        rig.create_topic()


def test_the_supervisor_neither_waits_for_kafka_nor_ends_without_it(supervised: Supervised, rig: Rig) -> None:
    rig.query("insert into ledger.pipelines (pipeline, desired) values ('orders', 'off') returning 1")
    process = supervised.start(HEADRACE_KAFKA_BOOTSTRAP="127.0.0.1:9")
    log = rig.log_dir / "supervisor-0.log"
    supervised.wait(lambda: b"ends not seen" in log.read_bytes())
    held = "select expires_at from ledger.leases where name like 'supervisor:%%'"
    before = rig.query(held)
    supervised.wait(lambda: rig.query(held) > before)
    process.terminate()
    assert process.wait(10) == 0  # a look at Kafka may be under way for longer than that
    assert "Traceback" not in log.read_text()
    assert log.read_text().count("ends not seen") == 1


def test_a_worker_does_not_call_old_ends_new_while_kafka_is_away(rig: Rig, seed: int) -> None:
    rig.produce(seed, 100)
    rig.start()
    rig.wait(rig.level)
    seen = "select max(seen_at), clock_timestamp() from ledger.ends"
    rig.wait(lambda: [one.records for one in lag(rig)] == [0] * 4)  # not None: the ends have been seen
    rig.stack.kafka.kill()
    try:
        away = rig.query(seen)[0][1]
        beats = "select max(heartbeat_at) from ledger.workers"
        rig.wait(lambda: rig.query(seen)[0][1] > away + timedelta(seconds=3))
        before = rig.query(beats)
        rig.wait(lambda: rig.query(beats) > before)  # the worker goes on saying that it lives
        assert rig.query(seen)[0][0] <= away
    finally:
        rig.stack.kafka.start()
    rig.wait(lambda: rig.query(seen)[0][0] > away)


def test_records_that_cannot_be_committed_wait_from_when_they_were_seen(rig: Rig, seed: int) -> None:
    rig.produce(seed, 100)
    rig.start()
    rig.wait(rig.level)
    with connect(rig.database) as db, db.transaction():
        db.execute("lock table ledger.batch_index in exclusive mode")
        rig.produce(seed + 1, 100)
        rig.wait(lambda: any(one.seconds is not None and one.seconds > 0.5 for one in lag(rig)))
    rig.wait(lambda: rig.level() and [one.seconds for one in lag(rig)] == [None] * rig.partitions)
