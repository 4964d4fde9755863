"""A join of two topics with a worker each: one of them is killed, and the other one's rows wait for it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import UTC, datetime

import duckdb
import pyarrow as pa
import pytest

from stream_workers.steps import Step
from tests.conftest import Services
from tests.stream_workers.harness import Rig

_EXPECTED = """
    with l as (select *, epoch_us(cast(orderTimestamp as timestamptz)) as t from orders),
         r as (select *, epoch_us(cast(orderTimestamp as timestamptz)) as t from payments)
    select l.customerId, l.orderId, r.orderId, r.orderId is not null
      from l left join r
        on l.customerId = r.customerId and r.t between l.t - 3600000000 and l.t + 12 * 3600000000
"""
_FOUND = 'select "customerId", "orderId", "paymentId", matched from paid_orders'
_END = int(datetime(2026, 3, 5, tzinfo=UTC).timestamp() * 1e6)  # orders are of the days before


@pytest.fixture
def payments(rig: Rig, stack: Services) -> Iterator[Rig]:
    """The second pipeline, over the same database."""
    folder = rig.log_dir / "payments"
    folder.mkdir()
    found = Rig(stack, rig.database, f"{rig.topic}-payments", folder, pipeline="payments")
    found.number = 1_000_000  # so that no payment has the name of an order
    try:
        yield found
    finally:
        found.close()


def test_one_of_two_workers_is_killed(rig: Rig, payments: Rig, seed: int) -> None:
    given = {
        "HEADRACE_CATALOG": "tests.catalogs_joined",
        "HEADRACE_BATCH_RECORDS": "200",
        "TEST_TOPIC": rig.topic,
        "TEST_RIGHT_TOPIC": payments.topic,
    }
    rig.produce(seed, 2000, ["negative"])
    payments.produce(seed + 1, 2000, ["negative"])
    rig.start(**given)
    rig.wait(lambda: _done(rig))
    assert rig.query("select to_regclass('paid_orders')") == [(None,)]  # its second table is not there yet
    doomed = payments.start(HEADRACE_FAILPOINTS=f"{Step.MERGED.value}:kill:5", **given)
    payments.wait(lambda: doomed.poll() is not None, alive=False)
    assert doomed.returncode == -signal.SIGKILL, payments.logs()
    _is_part_of_the_whole(rig, payments)
    payments.start(**given)
    payments.wait(lambda: _done(payments))
    _is_part_of_the_whole(rig, payments)
    for side in (rig, payments):
        side.mark_end(_END)
    rig.wait(lambda: _done(rig))
    payments.wait(lambda: _done(payments))
    found = rig.query(_FOUND)
    assert sorted(found, key=repr) == sorted(_expected(rig, payments), key=repr)
    assert {matched for *_, matched in found} == {True, False}


def _is_part_of_the_whole(rig: Rig, payments: Rig) -> None:
    """Every pair that is shown is one of the end; an unmatched row may still find its match."""
    pairs = {row for row in rig.query(_FOUND) if row[-1]}
    assert pairs <= set(_expected(rig, payments))


def _expected(rig: Rig, payments: Rig) -> list[tuple[object, ...]]:
    con = duckdb.connect()
    con.execute("set TimeZone = 'UTC'")
    con.register("orders", pa.Table.from_pylist(rig.sent.good))
    con.register("payments", pa.Table.from_pylist(payments.sent.good))
    return con.sql(_EXPECTED).fetchall()


def _done(rig: Rig) -> bool:
    """Whether everything sent to the topic was consumed, markers too."""
    ends = rig.ends()
    rows = rig.query("select partition, next_offset, consumed from ledger.positions where topic = %s", rig.topic)
    consumed = sum(consumed for *_, consumed in rows)
    return (
        len(rows) == rig.partitions
        and all(offset == ends[p] for p, offset, _ in rows)
        and consumed == len(rig.sent.messages) + rig.markers
    )
