"""Derived topics on real services: equal to a query over the log, each result once, whoever dies when."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter

import psutil
import pytest

from ledger import connect, corrections, letters
from ledger.corrections import Wish
from stream_workers.derive.steps import DeriveStep
from stream_workers.steps import Step
from tests.stream_workers.derive.rig import DerivedRig, is_marker, stop
from tests.stream_workers.orders import Message, encode, order

_BAD = [
    "truncated",
    "unknown_schema",
    "no_magic",
    "empty",
    "null",
    "negative",
    "nan",
    "bad_time",
    "no_zone",
    "far",
    "early",
]
_SMALL = {"HEADRACE_BATCH_RECORDS": "300"}
_END = 1_767_484_800_000_000  # 2026-01-04


def test_topics_equal_a_query_over_the_log(derived: DerivedRig, seed: int) -> None:
    derived.produce(seed, 5000, _BAD * 3)
    derived.mark_end(_END)
    worker = derived.derive(HEADRACE_BATCH_RECORDS="1000")
    derived.wait(derived.made)
    derived.verify()
    derived.wait(lambda: len([m for m in derived.log(f"{derived.topic}-by-product") if is_marker(m)]) == 3)
    assert stop(worker) == 0, derived.logs()


_MAKING = [s for s in DeriveStep if not s.name.startswith(("MARK", "CORRECTIONS"))]


@pytest.mark.parametrize(
    "step", [Step.CLAIMED, Step.POLLED, Step.ROUTED, *_MAKING, Step.ADOPTED], ids=lambda s: s.value
)
def test_killed_between_any_two_steps(derived: DerivedRig, seed: int, step: Step | DeriveStep) -> None:
    derived.produce(seed, 2000, _BAD)
    visit = 2 if step in (Step.CLAIMED, DeriveStep.TAKEN_OVER, DeriveStep.STARTED) else 3
    doomed = derived.derive(HEADRACE_FAILPOINTS=f"{step.value}:kill:{visit}", **_SMALL)
    derived.wait(lambda: doomed.poll() is not None, alive=False)
    assert doomed.returncode == -signal.SIGKILL, derived.logs()
    derived.derive(**_SMALL)
    derived.wait(derived.made)
    derived.verify()


@pytest.mark.parametrize("step", [DeriveStep.MARKED, DeriveStep.MARKS_COMMITTED], ids=lambda s: s.value)
def test_markers_are_passed_on_once_when_every_partition_has_one(
    derived: DerivedRig, seed: int, step: DeriveStep
) -> None:
    derived.produce(seed, 500)
    derived.mark_end(_END)
    doomed = derived.derive(HEADRACE_FAILPOINTS=f"{step.value}:kill:1")
    derived.wait(lambda: doomed.poll() is not None, alive=False)
    derived.derive()
    out = f"{derived.topic}-by-product"
    derived.wait(lambda: len([m for m in derived.log(out) if is_marker(m)]) == 3)
    derived.mark_end(_END + 1)
    derived.wait(lambda: len([m for m in derived.log(out) if is_marker(m)]) >= 6)
    derived.wait(derived.made)
    markers = [(m.partition(), dict(m.headers() or [])["event-time"]) for m in derived.log(out) if is_marker(m)]
    assert Counter(markers) == Counter((p, b"%d" % at) for p in range(3) for at in (_END, _END + 1))
    derived.verify()


@pytest.mark.parametrize("step", [Step.ROUTED, DeriveStep.BEGUN, DeriveStep.POSITIONED, DeriveStep.MIRRORING])
def test_stopped_past_its_lease_then_continued(derived: DerivedRig, seed: int, step: Step | DeriveStep) -> None:
    derived.produce(seed, 2000, _BAD)
    zombie = derived.derive(HEADRACE_FAILPOINTS=f"{step.value}:stop:3", **_SMALL)
    derived.wait(lambda: psutil.Process(zombie.pid).status() == psutil.STATUS_STOPPED)
    derived.derive(**_SMALL)
    derived.wait(derived.made)
    os.kill(zombie.pid, signal.SIGCONT)
    derived.produce(seed + 1, 1000, ["negative"])
    derived.wait(derived.made)
    derived.verify()
    assert zombie.poll() is None, derived.logs()


def test_random_kills_of_two_workers(derived: DerivedRig, seed: int, rounds: int) -> None:
    for n in range(rounds):
        derived.produce(seed + n, 3000, _BAD)
        doomed = derived.derive(HEADRACE_FAILPOINTS=f"{DeriveStep.COMMITTED.value}:kill:{2 + n % 5}", **_SMALL)
        other = derived.derive(**_SMALL)
        derived.wait(lambda: doomed.poll() is not None, alive=False)  # noqa: B023
        other.kill()
        other.wait()
    derived.derive()
    derived.wait(derived.made)
    derived.verify()


def test_a_chain_and_a_table_over_what_was_rekeyed(derived: DerivedRig, seed: int) -> None:
    derived.produce(seed, 3000, ["negative"])
    derived.mark_end(_END)
    for pipeline in ("orders-derived", "by-product-derived", "by-product"):
        derived.derive(pipeline)
    derived.wait(derived.made)
    middle = f"{derived.topic}-by-product"
    derived.wait(lambda: len([m for m in derived.log(middle) if is_marker(m)]) == 3)
    derived.wait(lambda: derived.made("bulk", source=middle))
    derived.wait(
        lambda: (
            dict(
                derived.query(
                    "select partition, next_offset from ledger.positions where topic = %s and"
                    " table_version like 'product_totals@%%'",
                    middle,
                )
            )
            == derived.ends_of(middle)
        )
    )
    db = derived.source_rows()
    expected = db.sql(
        """select "productId", epoch_us(time_bucket(interval 1 hour, cast("orderTimestamp" as timestamptz))) as h,
        sum(cast(round("orderAmount" * 100) as bigint))::bigint, count(*), count(case when quantity >= 5 then 1 end)
        from log where cast(round("orderAmount" * 100) as bigint) < 45000 group by all"""
    ).fetchall()
    found = derived.query(
        'select "productId", (extract(epoch from "windowStart") * 1000000)::bigint, cents::bigint, orders, bulk'
        " from product_totals"
    )
    assert sorted(found) == sorted(expected)
    ended = derived.query(
        "select ended from ledger.positions where table_version like 'product_totals@%%' and ended is not null"
    )
    assert ended == [(_END,)] * 3
    bulk = db.sql(
        """select "orderId", "orderTimestamp", cast(round("orderAmount" * 100) as bigint) / 100 from log
        where quantity >= 5 and cast(round("orderAmount" * 100) as bigint) < 45000"""
    ).fetchall()
    assert Counter(tuple(r.values()) for _, r, _ in derived.values(f"{derived.topic}-bulk")) == Counter(bulk)


def test_offsets_forgotten_or_moved_are_errors_until_a_person_accepts(derived: DerivedRig, seed: int) -> None:
    derived.produce(seed, 500)
    worker = derived.derive()
    derived.wait(derived.made)
    assert stop(worker) == 0
    groups = [f"headrace.derived.{derived.topic}-{suffix}" for suffix in ("by-product", "large")]
    for future in derived.admin.delete_consumer_groups(groups).values():
        future.result()
    derived.produce(seed + 1, 500)
    derived.derive()
    derived.wait(lambda: bool(derived.query("select 1 from ledger.shards where error like '%%Kafka forgot%%'")))
    assert "offsets" in derived.command("pipeline", "accept", "orders-derived", "--json")
    derived.wait(derived.made)
    derived.verify()


def test_corrections_that_only_kafka_has_are_an_error_until_a_person_accepts(derived: DerivedRig, seed: int) -> None:
    derived.produce(seed, 50, ["negative", "no_zone"])
    worker = derived.derive()
    derived.wait(derived.made)
    with connect(derived.database) as db:
        wishes = [Wish(letter.record_id, letter.table_version) for letter in letters.find(db, letters.Choice())]
        assert len(corrections.replay(db, wishes, "test")) == len(wishes) >= 6
        derived.wait(lambda: not letters.find(db, letters.Choice(standings=["waiting"])))
        assert stop(worker) == 0
        derived.workers.clear()
        worker = derived.derive()  # a new owner goes on after what was corrected
        derived.produce(seed + 1, 50)
        derived.wait(derived.made)
        assert corrections.replay(db, wishes[:1], "test")
        derived.wait(lambda: not letters.find(db, letters.Choice(standings=["waiting"])))
        assert stop(worker) == 0
        before = len(derived.log(f"{derived.topic}-by-product"))
        for table in ("corrections", "correction_outcomes"):  # Postgres was restored
            db.execute(f"delete from ledger.{table}".encode())
        db.execute("update ledger.positions set correction_seq = 0, replayed = 0")
        derived.derive()
        derived.wait(
            lambda: bool(derived.query("select 1 from ledger.shards where error like '%%decided correction%%'"))
        )
        derived.command("pipeline", "accept", "orders-derived", "--json")
        assert len(corrections.replay(db, wishes, "test")) == len(wishes)
        derived.wait(lambda: not letters.find(db, letters.Choice(standings=["waiting"])), 90)
        assert len(letters.find(db, letters.Choice(standings=["refused"]))) == len(wishes), "as bad as they were"
    assert len(derived.log(f"{derived.topic}-by-product")) == before


def test_a_ledger_that_forgot_is_mirrored_again_and_nothing_is_produced_twice(derived: DerivedRig, seed: int) -> None:
    derived.produce(seed, 1000, _BAD)
    worker = derived.derive(**_SMALL)
    derived.wait(derived.made)
    before = derived.at(f"{derived.topic}-by-product")
    derived.command("pipeline", "rebuild", "orders-derived", "--yes")
    derived.wait(derived.made)
    assert derived.at(f"{derived.topic}-by-product") == before
    derived.verify()
    assert worker.poll() is None, derived.logs()


def test_a_derived_topic_that_was_deleted_is_made_anew(derived: DerivedRig, seed: int) -> None:
    derived.produce(seed, 500)
    worker = derived.derive()
    derived.wait(derived.made)
    assert stop(worker) == 0
    names = [f"{derived.topic}-by-product", f"{derived.topic}-large"]
    for future in derived.admin.delete_topics(names).values():
        future.result()
    derived.wait(lambda: not set(names) & set(derived.admin.list_topics(timeout=20).topics), alive=False)
    derived.command("provision")
    derived.derive()
    derived.wait(lambda: bool(derived.query("select 1 from ledger.shards where error like '%%created again%%'")))
    derived.command("pipeline", "rebuild", "orders-derived", "--yes")
    derived.wait(derived.made)
    derived.times = 2  # the dead-letter topic is not made anew: it has them once more, the ledger once
    derived.verify()


def test_a_record_larger_than_kafka_takes_is_a_dead_letter(derived: DerivedRig, seed: int) -> None:
    derived.produce(seed, 50)
    rng = random.Random(seed)
    record = {**order(rng, 999), "orderId": "o" * 600_000, "orderAmount": 300.0, "status": "COMPLETED"}
    value = encode(derived.schema_id, record)  # its key is the customer; the derived topic's is the order's id
    derived.send([Message("good", record["customerId"].encode(), value, record)])
    derived.derive()
    derived.wait(derived.made)
    letters = derived.query(
        "select d.table_version, d.reason, length(r.payload) from ledger.dead_letters d"
        " join ledger.dead_letter_records r using (record_id) where d.reason = 'too_large'"
    )
    ((version, _, size),) = letters
    assert version.startswith(f"{derived.topic}-large@") and size == len(value)
    assert max(len(key) for key, _, _ in derived.values(f"{derived.topic}-large")) < 100
    assert max(len(r["orderId"]) for _, r, _ in derived.values(f"{derived.topic}-by-product")) == 600_000
    (letter,) = [m for m in derived.log(f"{derived.topic}-failed") if m.value() == value]
    assert dict(letter.headers() or [])["headrace-reason"] == b"too_large"
