"""Joins of topics with a worker each: one of them is killed, and the others' rows wait for it."""

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
_CHAINED = """
    with o as (select *, epoch_us(cast(orderTimestamp as timestamptz)) as t from orders),
         p as (select *, epoch_us(cast(orderTimestamp as timestamptz)) as t from payments),
         s as (select *, epoch_us(cast(orderTimestamp as timestamptz)) as t from shipments),
    paid as (
        select o.customerId, o.orderId, p.orderId as paymentId, greatest(o.t, coalesce(p.t, o.t)) as t
          from o left join p on o.customerId = p.customerId and p.t between o.t - 3600000000 and o.t + 12 * 3600000000
    )
    select paid.customerId, paid.orderId, paymentId, paymentId is not null, s.orderId, s.orderId is not null
      from paid left join s on s.customerId = paid.customerId and s.t between paid.t and paid.t + 12 * 3600000000
"""
_SENT = 'select "customerId", "orderId", "paymentId", matched, "shipmentId", shipment_rows_matched from sent_orders'
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


@pytest.fixture
def shipments(rig: Rig, stack: Services) -> Iterator[Rig]:
    """The third pipeline, over the same database."""
    folder = rig.log_dir / "shipments"
    folder.mkdir()
    found = Rig(stack, rig.database, f"{rig.topic}-shipments", folder, pipeline="shipments")
    found.number = 2_000_000
    try:
        yield found
    finally:
        found.close()


def test_one_of_the_workers_is_killed(rig: Rig, payments: Rig, shipments: Rig, seed: int) -> None:
    given = {
        "HEADRACE_CATALOG": "tests.catalogs_joined",
        "HEADRACE_BATCH_RECORDS": "200",
        "TEST_TOPIC": rig.topic,
        "TEST_RIGHT_TOPIC": payments.topic,
        "TEST_THIRD_TOPIC": shipments.topic,
    }
    rig.produce(seed, 2000, ["negative"])
    payments.produce(seed + 1, 2000, ["negative"])
    shipments.produce(seed + 2, 2000, ["negative"])
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
    assert rig.query("select to_regclass('sent_orders')") == [(None,)]
    shipments.start(**given)
    for side in (rig, payments, shipments):
        side.mark_end(_END)
    rig.wait(lambda: _done(rig))
    payments.wait(lambda: _done(payments))
    shipments.wait(lambda: _done(shipments))
    found = rig.query(_FOUND)
    assert sorted(found, key=repr) == sorted(_expected(rig, payments), key=repr)
    assert {matched for *_, matched in found} == {True, False}
    chained = rig.query(_SENT)
    assert sorted(chained, key=repr) == sorted(_expected(rig, payments, shipments), key=repr)
    assert {(row[3], row[5]) for row in chained} == {(one, two) for one in (True, False) for two in (True, False)}


def _is_part_of_the_whole(rig: Rig, payments: Rig) -> None:
    """Every pair that is shown is one of the end; an unmatched row may still find its match."""
    pairs = {row for row in rig.query(_FOUND) if row[-1]}
    assert pairs <= set(_expected(rig, payments))


def _expected(rig: Rig, payments: Rig, shipments: Rig | None = None) -> list[tuple[object, ...]]:
    con = duckdb.connect()
    con.execute("set TimeZone = 'UTC'")
    con.register("orders", pa.Table.from_pylist(rig.sent.good))
    con.register("payments", pa.Table.from_pylist(payments.sent.good))
    if shipments is None:
        return con.sql(_EXPECTED).fetchall()
    con.register("shipments", pa.Table.from_pylist(shipments.sent.good))
    return con.sql(_CHAINED).fetchall()


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
