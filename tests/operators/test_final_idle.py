"""Idle partitions hold no final row back, where the table says so: who wakes up corrects rows, and drops nothing."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ledger import Connection, ends
from ledger.closings import Input
from stream_workers.emit.closing import final_by
from tests.operators.bench import STEPS, Bench
from tests.operators.conftest import EXAMPLES
from tests.operators.test_final import CLOSING_STEPS, Closer
from tests.operators.test_sessions import micros, order
from tests.topology.declare import PER_PRODUCT, topic
from topology import Final, Session

TOPIC = topic(partitions=2)
IDLE = "10 minutes"
QUARTERS = replace(
    PER_PRODUCT,
    name="quarters",
    source=TOPIC,
    by=["customerId"],
    where=None,
    late="drop",
    emit=Final("quarters-final", idle_after=IDLE),
)
VISITS = replace(
    QUARTERS,
    name="visits",
    by=["customerId"],
    late="correct",
    window=Session("10 minutes"),
    allowed_lateness="5 minutes",
    emit=Final("visits-final", idle_after=IDLE),
)
RECORDS = st.lists(
    st.tuples(
        st.integers(0, 2),  # customer, who has one partition
        st.one_of(st.just(0), st.integers(-2_000, 300)),  # seconds ahead, for its number
        st.booleans(),  # idle after it, whoever has been read to the end
    ),
    min_size=8,
    max_size=40,
)
PACE = 300
QUARTER = """
with timed as (
    select *, epoch_us(orderTimestamp::timestamptz) as micros, micros // 900000000 * 900000000 as start from log
), ordered as (
    select *, max(micros) over (
        partition by partition order by "offset" rows between unbounded preceding and 1 preceding) as watermark
    from timed
)
select customerId, start, start + 900000000, count(*) from ordered
where coalesce(watermark < start + 900000000, true) group by all
having start + 900000000 <= (select max(micros) from timed)
"""
VISIT = """
with t as (select *, epoch_us(orderTimestamp::timestamptz) as micros from log),
begun as (
    select distinct customerId, micros as start from t where not exists (
        select 1 from t o where o.customerId = t.customerId and o.micros < t.micros and t.micros - o.micros < 600000000)
)
select t.customerId, start, max(micros) + 600000000, count(*)
from t asof join begun b on t.customerId = b.customerId and t.micros >= b.start
group by all having max(micros) + 900000000 <= (select max(micros) from t)
"""


def sleep(bench: Bench, partitions: list[int]) -> None:
    """Nothing has come to these partitions for a while, in which they were read to their ends."""
    for partition in partitions:
        at = bench.position(partition)  # opens it, if need be
        assert at == bench.end(partition)
        ends.see_end(bench.db, bench.program.name, TOPIC.name, partition, at, None)
        bench.db.execute(
            "update ledger.batch_index set ended_at = ended_at - interval '11 minutes' where partition = %s",
            (partition,),
        )
    bench.db.execute("update ledger.table_versions set created_at = created_at - interval '11 minutes'")


def drain(*closers: Closer) -> None:
    for closer in closers:
        while closer.step() or closer.late():
            pass


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)
@given(records=RECORDS, seed=st.integers(0, 2**32))
def test_who_wakes_up_corrects(db: Connection, records: list[tuple[int, int, bool]], seed: int) -> None:
    rng = random.Random(seed)
    bench = Bench(db, TOPIC, [QUARTERS, VISITS])
    db.execute("delete from ledger.ends")
    closers = [Closer(bench, table) for table in bench.program.tables]
    for number, (who, apart, idle) in enumerate(records):
        bench.send(who % 2, order(who, 0, PACE * number + apart, 100, "", f"o{number}"))
        if rng.random() < 0.6:
            partition = who % 2
            bench.advance(partition, bench.end(partition), rng.choice(STEPS) if rng.random() < 0.1 else None)
        if idle:
            sleep(bench, [p for p in bench.logs if bench.position(p) == bench.end(p)])
        for closer in closers:
            if rng.random() < 0.5:
                closer.step(rng.choice(CLOSING_STEPS) if rng.random() < 0.15 else None)
    bench.play(rng)
    sleep(bench, list(bench.logs))
    drain(*closers)
    bench.accounting()
    duck = bench.duck()
    for closer, query in zip(closers, (QUARTER, VISIT), strict=True):
        expected = {row[:2]: row[2:] for row in duck.sql(query).fetchall()}
        standing: dict[tuple[Any, ...], Any] = {}
        revisions: dict[tuple[Any, ...], list[int]] = {}
        for row in closer.decoded():
            name = row["customerId"], micros(row["windowStart"])
            standing[name] = micros(row["windowEnd"]), row["orders"]
            if row.get("withdrawn"):
                del standing[name]
            revisions.setdefault(name, []).append(row["revision"])
        assert standing == expected, closer.table.name
        assert all(seen == list(range(1, len(seen) + 1)) for seen in revisions.values())


def test_an_empty_partition_holds_rows_back_until_it_is_idle(db: Connection) -> None:
    bench = Bench(db, TOPIC, [QUARTERS])
    closer = Closer(bench, bench.program.tables[0])
    for minute in (0, 1, 100):
        bench.send(0, order(0, 0, 60 * minute, 100, "", "o"))
    bench.play(random.Random(1), crash=0)
    bench.position(1)  # opened, and nothing in it
    ends.see_end(db, "orders", TOPIC.name, 1, 0, None)
    drain(closer)
    assert closer.records == []
    sleep(bench, [1])
    drain(closer)
    assert [(row["orders"], row["revision"]) for row in closer.decoded()] == [(2, 1)]
    bench.send(1, order(0, 0, 120, 100, "", "o"))  # in time for its own partition
    bench.play(random.Random(1), crash=0)
    drain(closer)
    assert [(row["orders"], row["revision"]) for row in closer.decoded()] == [(2, 1), (3, 2)]
    assert [(row["late"], row["applied"]) for row in bench.accounting()] == [(0, 3), (0, 1)]


def test_a_partition_whose_end_nobody_sees_is_not_idle(db: Connection) -> None:
    bench = Bench(db, TOPIC, [QUARTERS])
    closer = Closer(bench, bench.program.tables[0])
    for minute in (0, 100):
        bench.send(0, order(0, 0, 60 * minute, 100, "", "o"))
    bench.play(random.Random(1), crash=0)
    sleep(bench, [1])
    db.execute("update ledger.ends set seen_at = seen_at - interval '2 minutes'")
    drain(closer)
    assert closer.records == []
    ends.see_end(db, "orders", TOPIC.name, 1, 5, None)  # there are records to read
    drain(closer)
    assert closer.records == []


def test_idle_partitions_are_not_asked() -> None:
    def by(*found: tuple[int | None, bool]) -> int | None:
        return final_by([Input(n, at, None, 0, idle) for n, (at, idle) in enumerate(found)], 2, 10)

    assert by((50, False), (30, False)) == 20
    assert by((50, False), (30, True)) == 40
    assert by((50, False), (None, True)) == 40
    assert by((None, False), (30, True)) is None
    assert by((50, True), (30, True)) == 40
    assert by((None, True), (30, True)) == 20
    assert by((None, True), (None, True)) is None
    assert by((50, False)) is None
