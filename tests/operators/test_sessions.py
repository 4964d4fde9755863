"""Sessions: whatever order, cuts, crashes and corrections, what one query over the log and the corrections gives."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ledger import Connection
from tests.operators.bench import CORRECTION_STEPS, STEPS, Bench
from tests.operators.conftest import EXAMPLES
from tests.topology.declare import MONEY, ORDER, PER_CUSTOMER, topic
from topology import Session

TOPIC = topic(partitions=2)
GAP = 600_000_000  # microseconds
MEASURES = {
    "orders": "count(*)",
    "total": f"sum({MONEY})",
    "least": f"min({MONEY})",
    "most": "max(orderId)",
    "mean": f"avg({MONEY})",
    "spread": f"stddev({MONEY})",
    "first_order": "first(orderId)",
    "last_order": "last(orderId)",
}
ALL = replace(PER_CUSTOMER, name="visits", source=TOPIC, measures=MEASURES, window=Session("10 minutes"))
BOTH = replace(ALL, name="baskets", by=["productId", "customerId"], where="status = 'COMPLETED'")
CLOSED = replace(BOTH, name="closed", late="drop", allowed_lateness="5 minutes")
TABLES = [ALL, BOTH, CLOSED]

MARK = "end of input"
RECORDS = st.lists(
    st.tuples(
        st.integers(0, 2),  # customer, who has one partition
        st.integers(0, 1),  # product
        st.one_of(st.integers(-60, 60).map(lambda five: 300 * five), st.integers(-4_000, 4_000)),  # seconds around 0:00
        st.integers(1, 9_999),  # cents
        st.sampled_from(["COMPLETED", "COMPLETED", "COMPLETED", "FAILED", "invalid", "invalid", MARK]),
        st.integers(-4_000, 4_000),  # seconds of an invalid one once it is corrected
    ),
    max_size=40,
)
MIDNIGHT = datetime(2026, 1, 11)

# Fates by hand: of records at earlier offsets only the valid ones, and markers, make a record late.
TAKEN = """
with entries as (
    select partition, "offset", epoch_us(orderTimestamp::timestamptz) as micros, productId, status,
        orderAmount > 0 as valid
    from log
    union all select partition, "offset", marker, null, 'mark', true from nulls
), ordered as (
    select *, max(case when valid then micros end) over (
        partition by partition order by "offset" rows between unbounded preceding and 1 preceding) as watermark
    from entries
), on_time as (
    select partition, "offset", coalesce(micros + 600000000 + 300000000 <= watermark, false) as late from ordered
), sent as (
    select *, false as corrected from log where orderAmount > 0 union all select *, true from corrections
)
select s.*, epoch_us(s.orderTimestamp::timestamptz) as micros, late and not corrected as late
from sent s join on_time using (partition, "offset")
"""
# A session begins with a record before which nothing happened for the gap, and has all records up to the next such one.
SESSIONS = """
with t as (select *, {by} as k from taken where {where}),
begun as (
    select distinct k, micros as start from t
    where not exists (select 1 from t as o where o.k = t.k and o.micros < t.micros and t.micros - o.micros < 600000000)
), held as (
    select t.*, start from t join begun b on b.k = t.k and b.start <= t.micros
        and not exists (select 1 from begun as n where n.k = b.k and n.start > b.start and n.start <= t.micros)
)
select k, start, max(micros) + 600000000, count(*), sum(orderAmount::decimal(18,2)), min(orderAmount::decimal(18,2)),
    max(orderId), avg(orderAmount::decimal(18,2)), stddev(orderAmount::decimal(18,2)),
    list(orderId order by micros, "offset")[1], list(orderId order by micros, "offset")[-1]
from held group by k, start
"""
QUERIES = {
    "visits": ("customerId", "true"),
    "baskets": ("productId || customerId", "status = 'COMPLETED'"),
    "closed": ("productId || customerId", "status = 'COMPLETED' and not late"),
}


def order(who: int, product: int, second: int, cents: int, kind: str, name: str) -> dict[str, Any]:
    return {
        **ORDER,
        "orderId": name,
        "customerId": f"c{who}",
        "productId": f"p{product}",
        "orderAmount": (-cents if kind == "invalid" else cents) / 100,
        "orderTimestamp": (MIDNIGHT + timedelta(seconds=second)).isoformat() + "Z",
        "status": "FAILED" if kind == "FAILED" else "COMPLETED",
    }


def micros(at: datetime) -> int:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def same(found: Any, expected: Any) -> bool:
    if found is None or expected is None or isinstance(found, str):
        return bool(found == expected)
    return math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-9)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)
@given(records=RECORDS, seed=st.integers(0, 2**32))
def test_equals_the_batch_query(db: Connection, records: list[tuple[Any, ...]], seed: int) -> None:
    bench = Bench(db, TOPIC, TABLES)
    db.execute("delete from ledger.corrections")  # of an earlier example: the topic is not the same
    wrong: dict[tuple[int, int], dict[str, Any]] = {}
    for number, (who, product, second, cents, kind, instead) in enumerate(records):
        partition = who % TOPIC.partitions
        if kind == MARK:
            bench.mark(partition, micros(MIDNIGHT.replace(tzinfo=UTC)) + second * 1_000_000)
            continue
        offset = bench.send(partition, order(who, product, second, cents, kind, f"o{number}"))
        if kind == "invalid":
            wrong[partition, offset] = order(who, product, instead, cents, "", f"o{number}")
    corrected = play(bench, random.Random(seed), dict(wrong))
    bench.accounting()

    duck = bench.duck()
    columns = ", ".join(f.name for f in bench.program.schema.fields)
    duck.execute("create table corrections as select * from log limit 0")
    for (partition, offset), value in corrected.items():
        given_columns = f'({columns}, partition, "offset", kafka_millis)'
        marks = ", ".join("?" * (len(bench.program.schema.fields) + 3))
        values = [value[f.name] for f in bench.program.schema.fields]
        duck.execute(f"insert into corrections {given_columns} values ({marks})", [*values, partition, offset, 0])
    duck.execute(f"create view taken as {TAKEN}")
    for name, (by, where) in QUERIES.items():
        expected = {(row[0], row[1]): row[2:] for row in duck.sql(SESSIONS.format(by=by, where=where)).fetchall()}
        rows = bench.rows(name)
        found = {
            (row.get("productId", "") + row["customerId"], micros(row["windowStart"])): [
                micros(row["windowEnd"]),
                *(row[measure] for measure in MEASURES),
            ]
            for row in rows
        }
        assert len(rows) == len(found)
        assert found.keys() == expected.keys(), name
        for key, sums in expected.items():
            for one, other in zip(found[key], sums, strict=True):
                assert same(one, other), (name, key, found[key], sums)
        days = {day for query in TOUCHED for (touched,) in db.execute(query, (name,)) for day in touched}
        assert days >= {start // 86_400_000_000 for _, start in expected}, name


TOUCHED = [
    f"select days from ledger.{index} join ledger.table_versions using (table_version) where table_name = %s"
    for index in ("batch_index", "correction_index")
]


def play(bench: Bench, rng: random.Random, wrong: dict[tuple[int, int], Any]) -> dict[tuple[int, int], Any]:
    """Consume everything and correct some dead letters meanwhile, with crashes; the corrected records."""
    said: dict[tuple[int, int], Any] = {}
    while behind := [p for p in bench.logs if bench.position(p) < bench.end(p)]:
        partition = rng.choice(behind)
        at, end = bench.position(partition), bench.end(partition)
        to = rng.randint(at + 1, min(end, at + rng.choice([1, 3, 10, 1_000])))
        bench.advance(partition, to, rng.choice(STEPS) if rng.random() < 0.15 else None)
        if rng.random() < 0.3:
            _correct(bench, rng, wrong, said)
    _correct(bench, rng, wrong, said)
    for partition in bench.logs:
        bench.decide(partition)
    return said


def _correct(bench: Bench, rng: random.Random, wrong: dict[tuple[int, int], Any], said: dict[Any, Any]) -> None:
    read = [at for at in wrong if at[1] < bench.position(at[0])]
    if read:
        at = rng.choice(read)
        assert bench.correct(*at, wrong[at])
        said[at] = wrong.pop(at)
    partition = rng.choice(list(bench.logs))
    bench.decide(partition, rng.choice(CORRECTION_STEPS) if rng.random() < 0.3 else None)


@pytest.mark.parametrize(
    ("minutes", "sessions"),
    [
        ([0, 9, 18], [(0, 28, 3)]),
        ([0, 10, 20], [(0, 10, 1), (10, 20, 1), (20, 30, 1)]),  # a session's end is not in it any more
        ([0, 18, 9], [(0, 28, 3)]),  # the last record joins two sessions
        ([30, 0, 18, 9, 21], [(0, 40, 5)]),
        ([5, 5, 0, 5], [(0, 15, 4)]),
        ([0, 12, -12, 1, -11], [(-12, -1, 2), (0, 11, 2), (12, 22, 1)]),
        ([0, 40, 80, 9, 31, 18, 71, 62, 53], [(0, 28, 3), (31, 50, 2), (53, 90, 4)]),
    ],
)
@pytest.mark.parametrize("batch", [1, 4])
def test_sessions_that_touch_become_one(
    db: Connection, minutes: list[int], sessions: list[tuple[int, int, int]], batch: int
) -> None:
    bench = Bench(db, TOPIC, [ALL])
    for minute in minutes:
        bench.send(0, order(0, 0, minute * 60, 100, "", "o"))
    while bench.position(0) < bench.end(0):
        bench.advance(0, min(bench.end(0), bench.position(0) + batch))
    midnight = MIDNIGHT.replace(tzinfo=UTC)
    one = timedelta(minutes=1)
    found = [
        ((row["windowStart"] - midnight) // one, (row["windowEnd"] - midnight) // one, row["orders"])
        for row in bench.rows("visits")
    ]
    assert sorted(found) == sessions


def test_a_session_that_merges_into_one_of_the_day_before_touches_both_days(db: Connection) -> None:
    bench = Bench(db, TOPIC, [ALL])
    for second in (-120, 500, 100):  # the second is a session of the new day until the third joins it to the first
        bench.send(0, order(0, 0, second, 100, "", "o"))
    touched = []
    for offset in (1, 2, 3):
        bench.restart(0)  # each batch has an entry of its own
        bench.advance(0, offset)
        (days,) = db.execute("select days from ledger.batch_index order by from_offset desc limit 1").fetchone() or ()
        touched.append(days)
    day = micros(MIDNIGHT.replace(tzinfo=UTC)) // 86_400_000_000
    assert touched == [[day - 1], [day], [day - 1, day]]
    (row,) = bench.rows("visits")
    assert (row["orders"], row["windowStart"].isoformat()) == (3, "2026-01-10T23:58:00+00:00")
