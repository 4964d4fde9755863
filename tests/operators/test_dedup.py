"""Duplicates: a record is one when its id is remembered at the watermark it finds, however the log is cut."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ledger import Connection, skipped
from tests.operators.bench import Bench
from tests.operators.conftest import EXAMPLES
from tests.topology.declare import NOON_MICROS, ORDER, PER_CUSTOMER, PER_PRODUCT, topic
from topology import Dedup, Hopping

TOPIC = topic(partitions=2, key="orderId")
ONCE = Dedup("orderId", horizon="30 minutes")
WHOLE = replace(PER_CUSTOMER, name="whole", source=TOPIC, dedup=ONCE)
CLOSED = replace(PER_PRODUCT, name="closed", source=TOPIC, dedup=ONCE, late="drop", allowed_lateness="5 minutes")
OPEN = replace(
    PER_PRODUCT,
    name="open",
    source=TOPIC,
    dedup=Dedup(["productId", "orderId"], horizon="1 hour"),
    window=Hopping("30 minutes", every="15 minutes"),
)
MARK = "end of input"
RECORDS = st.lists(
    st.tuples(
        st.integers(0, 3),  # order: of partition 0 or 1
        st.integers(0, 150),  # minute
        st.integers(0, 1),  # product
        st.sampled_from(["COMPLETED", "COMPLETED", "COMPLETED", "FAILED", "invalid", MARK]),
    ),
    max_size=50,
)

# One record after the other: whether an id is remembered depends on what became of the one before.
FATES = """
with recursive entries as (
    select partition, "offset", epoch_us(orderTimestamp::timestamptz) as micros, orderId, productId, status,
        orderAmount > 0 as valid
    from log
    union all select partition, "offset", marker, null, null, 'mark', true from nulls
), watermarked as (
    select *, max(case when valid then micros end) over (
        partition by partition order by "offset" rows between unbounded preceding and 1 preceding) as watermark
    from entries
), passed as (
    select *, row_number() over (partition by {id} order by "offset") as n
    from watermarked
    where valid and status <> 'mark' and ({passes})
), decided as (
    select *, false as duplicate, micros + {horizon} as until from passed where n = 1
    union all
    select p.*, p.watermark < d.until, case when p.watermark < d.until then d.until else p.micros + {horizon} end
    from passed p join decided d on (p.n = d.n + 1 and {same})
)
select * from decided
"""
LATE = "coalesce((micros // 900000000 + 1) * 900000000 + 300000000 <= watermark, false)"
LATE_OPEN = "coalesce((micros // 900000000 + 1) * 900000000 <= watermark, false)"


def value(order: int, minute: int, product: int, kind: str) -> dict[str, Any]:
    return {
        **ORDER,
        "orderId": f"o{order}",
        "customerId": f"c{order}",
        "productId": f"p{product}",
        "orderAmount": -1.0 if kind == "invalid" else 1.0,
        "orderTimestamp": f"2026-01-10T{12 + minute // 60:02d}:{minute % 60:02d}:30Z",
        "status": "FAILED" if kind == "FAILED" else "COMPLETED",
    }


def fates(bench: Bench) -> Any:
    """DuckDB with the fates of each table as views `whole`, `closed`, `opened`."""
    duck = bench.duck()
    for name, passes, horizon, id_ in (
        ("whole", "true", 1_800_000_000, ["orderId"]),
        ("closed", f"status = 'COMPLETED' and not {LATE}", 1_800_000_000, ["orderId"]),
        ("opened", "status = 'COMPLETED'", 3_600_000_000, ["productId", "orderId"]),
    ):
        same = " and ".join(f"p.{column} = d.{column}" for column in id_)
        text = FATES.format(passes=passes, horizon=horizon, id=", ".join(id_), same=same)
        duck.execute(f"create table {name} as {text}")
    return duck


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)
@given(records=RECORDS, seed=st.integers(0, 2**32))
def test_equals_the_batch_query(db: Connection, records: list[tuple[int, int, int, str]], seed: int) -> None:
    db.execute("delete from ledger.corrections")  # of an earlier example: the topic is not the same
    bench = Bench(db, TOPIC, [WHOLE, CLOSED, OPEN])
    rng = random.Random(seed)
    replayed = []
    half = rng.randint(0, len(records))
    for part in (records[:half], records[half:]):
        dead = []
        for order, minute, product, kind in part:
            if kind == MARK:
                bench.mark(order % 2, NOON_MICROS + minute * 60_000_000)
                continue
            offset = bench.send(order % 2, value(order, minute, product, kind))
            dead += [(order % 2, offset, value(order, minute, product, "COMPLETED"))] if kind == "invalid" else []
        bench.play(rng)
        for partition, offset, corrected in dead:  # is no duplicate, nor is any record to come one of it
            if rng.random() < 0.5:
                bench.correct(partition, offset, corrected, "whole")
                bench.decide(partition)
                replayed.append((corrected["customerId"],))
    duck = fates(bench)
    duck.execute("create table replayed (customerId text)")
    if replayed:
        duck.executemany("insert into replayed values (?)", replayed)

    counted = "select customerId, count(*) from ({}) group by all"
    applied = "select 'c' || orderId[2:] as customerId from whole where not duplicate union all from replayed"
    assert {(r["customerId"], r["orders"]) for r in bench.rows("whole")} == set(
        duck.sql(counted.format(applied)).fetchall()
    )
    quarters = "select productId, micros // 900000000, count(*) from closed where not duplicate group by all"
    assert _windows(bench, "closed") == set(duck.sql(quarters).fetchall())
    halves = (
        "select productId, micros // 900000000 - back, count(*) from opened, (select unnest([0, 1]) as back)"
        " where not duplicate group by all"
    )
    assert _windows(bench, "open") == set(duck.sql(halves).fetchall())
    _assert_accounted(bench, duck)


def _windows(bench: Bench, table: str) -> set[tuple[Any, ...]]:
    return {(r["productId"], int(r["windowStart"].timestamp()) // 900, r["orders"]) for r in bench.rows(table)}


def _assert_accounted(bench: Bench, duck: Any) -> None:
    for version, name in zip(bench.program.tables, ("whole", "closed", "opened"), strict=True):
        for p in range(TOPIC.partitions):
            named = skipped.read(bench.db, version.version_id, TOPIC.name, p)
            again = f'select "offset" from {name} where partition = {p} and duplicate order by 1'
            assert named[skipped.DUPLICATE] == [offset for (offset,) in duck.sql(again).fetchall()]
    for row in bench.accounting():
        name, p = row["table_version"].partition("@")[0].replace("open", "opened"), row["partition"]
        found = duck.sql(
            f"select count(*) filter (duplicate), count(*) filter (not duplicate),"
            f" count(*) filter (not duplicate and {LATE_OPEN}) from {name} where partition = {p}"
        ).fetchall()[0]
        assert (row["duplicate"], row["applied"]) == found[:2]
        assert row["late_applied"] == (found[2] if name == "opened" else 0)


def test_what_the_watermark_has_reached_is_removed(db: Connection) -> None:
    bench = Bench(db, TOPIC, [WHOLE])
    for minute in range(0, 240, 10):
        bench.send(0, {**value(0, 0, 0, "COMPLETED"), "orderId": f"o{minute}", "orderTimestamp": _at(minute)})
    for offset in range(1, bench.end(0) + 1):
        bench.advance(0, offset)
    table = bench.program.tables[0]
    assert table.ids is not None
    state = table.ids.state_ddl.split()[5]
    kept = db.execute(f"select id_0 from {state} order by until".encode()).fetchall()
    assert [one for (one,) in kept][-3:] == ["o210", "o220", "o230"]
    assert len(kept) <= 4  # those of the horizon, and what its last eighth may leave


def _at(minute: int) -> str:
    return f"2026-01-10T{12 + minute // 60:02d}:{minute % 60:02d}:00Z"


def test_an_id_that_is_null_is_a_dead_letter(db: Connection, tmp_path: Any) -> None:
    from tests.topology.declare import schema_file

    schema = schema_file(
        tmp_path,
        {"name": "device", "type": "string"},
        {"name": "eventId", "type": ["null", "long"]},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    )
    events = replace(TOPIC, name="events", schema=schema, key="device", require={}, partitions=1)
    events = replace(events, event_time=replace(events.event_time, column="at", format="ms"))
    counted = replace(
        WHOLE,
        source=events,
        by=["device"],
        measures={"records": "count(*)"},
        dedup=Dedup(["device", "eventId"], horizon="1 hour"),
    )
    bench = Bench(db, events, [counted])
    for number in (1, None, 2, 1, None):
        bench.send(0, {"device": "d", "eventId": number, "at": NOON_MICROS // 1000})
    bench.advance(0, bench.end(0))
    assert bench.rows("whole") == [{"device": "d", "records": 2}]
    (row,) = bench.accounting()
    assert (row["applied"], row["duplicate"], row["dead_lettered"]) == (2, 1, 2)
    reasons = db.execute("select distinct reason from ledger.dead_letters").fetchall()
    assert reasons == [("null_id:eventId",)]
