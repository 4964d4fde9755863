"""Offsets are never reset silently: each way in which log and ledger can come apart is named, with what to do."""

from __future__ import annotations

import psycopg
import pytest
from confluent_kafka import TopicPartition
from psycopg import sql

from headrace import settings
from stream_workers import remedy
from tests import fresh
from tests.stream_workers.harness import Rig
from tests.stream_workers.orders import Sent
from topology.program import PipelineProgram


def _error(rig: Rig) -> str:
    return " ".join(error or "" for (error,) in rig.query("select distinct error from ledger.shards"))


def _program(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> PipelineProgram:
    for name, value in rig.environment().items():
        monkeypatch.setenv(name, value)
    settings.settings.cache_clear()
    return fresh.load().pipelines["orders"]


def _recreate(rig: Rig) -> None:
    rig.delete_topic()
    for _ in range(50):
        if rig.topic not in rig.admin.list_topics(timeout=5).topics:
            break
    rig.create_topic()
    rig.sent = Sent()


def test_topic_recreated_under_a_stopped_worker(rig: Rig, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.produce(seed, 500)
    worker = rig.start()
    rig.wait(rig.level)
    rig.stop(worker)
    before = rig.query("select table_version, partition, next_offset from ledger.positions order by 1, 2")
    _recreate(rig)
    rig.produce(seed + 1, 4000)
    rig.start()
    rig.wait(lambda: "deleted and created again" in _error(rig))
    assert "headrace pipeline rebuild orders" in _error(rig)
    assert rig.query("select table_version, partition, next_offset from ledger.positions order by 1, 2") == before
    assert len(remedy.rebuild(_program(rig, monkeypatch), settings.load())) == 2
    rig.stop(rig.workers[-1])
    rig.start()
    rig.wait(rig.level)
    rig.verify()


def test_rebuilt_under_a_running_worker_that_is_level(rig: Rig, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.produce(seed, 2000, ["negative", "nan"])
    rig.start()
    rig.wait(rig.level)
    remedy.rebuild(_program(rig, monkeypatch), settings.load())
    rig.wait(lambda: bool(rig.query("select 1 from ledger.table_versions")) and rig.level())
    rig.verify()


def test_topic_recreated_under_a_running_worker(rig: Rig, seed: int) -> None:
    rig.produce(seed, 2000)
    rig.start()
    rig.wait(rig.level)
    before = rig.query("select table_version, partition, next_offset from ledger.positions order by 1, 2")
    _recreate(rig)
    rig.wait(lambda: "deleted and created again" in _error(rig))
    rig.produce(seed + 1, 4000)
    assert rig.query("select table_version, partition, next_offset from ledger.positions order by 1, 2") == before


def test_retention_passed(rig: Rig, seed: int) -> None:
    rig.produce(seed, 1000)
    worker = rig.start()
    rig.wait(rig.level)
    rig.stop(worker)
    before = rig.query("select table_version, partition, next_offset from ledger.positions order by 1, 2")
    rig.produce(seed + 1, 1000)
    cut = [TopicPartition(rig.topic, p, end - 5) for p, end in rig.ends().items()]
    for deleted in rig.admin.delete_records(cut).values():
        deleted.result()
    rig.start()
    rig.wait(lambda: "were deleted before they were consumed" in _error(rig))
    assert "headrace pipeline rebuild orders" in _error(rig)
    assert rig.query("select table_version, partition, next_offset from ledger.positions order by 1, 2") == before


def test_postgres_restored_to_an_older_state(rig: Rig, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.produce(seed, 1000)
    worker = rig.start()
    rig.wait(rig.level)
    rig.stop(worker)
    name = psycopg.conninfo.conninfo_to_dict(rig.database)["dbname"]
    backup = f"{name}_backup"
    with psycopg.connect(rig.stack.admin_url, autocommit=True) as db:
        db.execute(sql.SQL("create database {} template {}").format(*map(sql.Identifier, (backup, str(name)))))
        worker = rig.start()
        rig.produce(seed + 1, 1000)
        rig.wait(rig.level)
        rig.stop(worker)
        db.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(str(name))))
        db.execute(sql.SQL("alter database {} rename to {}").format(*map(sql.Identifier, (backup, str(name)))))
    worker = rig.start()
    rig.wait(lambda: "restored to an older state" in _error(rig))
    assert not rig.level()
    assert "headrace pipeline accept orders" in _error(rig)
    rig.stop(worker)
    remedy.accept(_program(rig, monkeypatch), settings.load())
    rig.start()
    rig.wait(rig.level)
    rig.verify()


def test_partitions_added(rig: Rig, seed: int) -> None:
    from confluent_kafka.admin import NewPartitions

    rig.produce(seed, 1000)
    rig.start()
    rig.wait(rig.level)
    rig.admin.create_partitions([NewPartitions(rig.topic, 6)])[rig.topic].result()
    rig.wait(lambda: "has 6 partitions, the declaration says 4" in _error(rig))
