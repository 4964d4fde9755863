"""Final rows of sessions: what is emitted and not withdrawn is what a query over the log gives, whatever crashes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ledger import Connection
from tests.operators.bench import CORRECTION_STEPS, STEPS, Bench
from tests.operators.conftest import EXAMPLES
from tests.operators.test_final import CLOSING_STEPS, Closer
from tests.operators.test_sessions import MIDNIGHT, SESSIONS, TAKEN, micros, order
from tests.topology.declare import MONEY, PER_CUSTOMER, topic
from topology import Final, Session, final_compile

TOPIC = topic(partitions=2)
MEASURES = {
    "orders": "count(*)",
    "total": f"sum({MONEY})",
    "least": f"min({MONEY})",
    "most": "max(orderId)",
    "first_order": "first(orderId)",
    "times": "count(distinct orderTimestamp)",
}
VISITS = replace(
    PER_CUSTOMER,
    name="visits",
    source=TOPIC,
    measures=MEASURES,
    window=Session("10 minutes"),
    emit=Final("visits-final"),
)
BASKETS = replace(
    VISITS,
    name="baskets",
    by=["productId", "customerId"],
    where="status = 'COMPLETED'",
    allowed_lateness="5 minutes",
    emit=Final("baskets-final"),
)
CLOSED = replace(BASKETS, name="closed", late="drop", emit=Final("closed-final"))
TABLES = {
    "visits": (VISITS, "customerId", "true", 0),
    "baskets": (BASKETS, "productId || customerId", "status = 'COMPLETED'", 300_000_000),
    "closed": (CLOSED, "productId || customerId", "status = 'COMPLETED' and not late", 300_000_000),
}
MARK = "end of input"
RECORDS = st.lists(
    st.tuples(
        st.integers(0, 2),  # customer, who has one partition
        st.integers(0, 1),  # product
        st.one_of(
            st.just(0), st.integers(-600, 0), st.integers(-12, 3).map(lambda five: 300 * five), st.integers(-4_000, 900)
        ),
        st.integers(1, 9_999),  # cents
        st.sampled_from(["COMPLETED"] * 5 + ["FAILED", "invalid", "twice", MARK]),
        st.integers(-4_000, 9_000),  # seconds of an invalid one once it is corrected
    ),
    min_size=16,
    max_size=40,
)
PACE = 200  # seconds from one record to the next, but for those that are ahead or behind by the third number

# How far the partitions have come, and their ends.
COME = """
with come as (
    select partition, max(micros) as watermark, (list(marked order by "offset"))[-1] as ended from (
        select partition, "offset", epoch_us(orderTimestamp::timestamptz) as micros, null::bigint as marked from log
        where orderAmount > 0
        union all select partition, "offset", null, null from log where orderAmount <= 0
        union all select partition, "offset", marker, marker from nulls
    ) group by partition
)
select min(watermark) as by_now, case when count(ended) = 2 then min(ended) end as by_end from come
having count(watermark) = 2
"""
FINAL = """
with sessions(k, start, stop, orders, total, least, most, mean, spread, first_order, last_order) as ({sessions}),
times as (
    select s.k, s.start, count(distinct orderTimestamp) as times from sessions s
    join (select *, {by} as k from taken where {where}) t on t.k = s.k and micros >= start and micros < stop
    group by all
)
select k, start, stop, orders, total, least, most, first_order, times
from sessions join times using (k, start), ({come}) where stop + {lateness} <= by_now or start <= by_end
"""


@settings(
    max_examples=max(1, EXAMPLES // 2),  # each is long: rows become final, and are withdrawn, on the way
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)
@given(records=RECORDS, seed=st.integers(0, 2**32), end=st.sampled_from([None, 4_000, 15_000]))
def test_what_is_not_withdrawn_is_what_the_query_gives(
    db: Connection, records: list[tuple[Any, ...]], seed: int, end: int | None
) -> None:
    rng = random.Random(seed)
    with patch.object(final_compile, "_AT_ONCE", rng.choice([3, 20_000])):
        bench = Bench(db, TOPIC, [table for table, *_ in TABLES.values()])
    db.execute("delete from ledger.corrections")  # of an earlier example: the topic is not the same
    wrong: dict[tuple[int, int], dict[str, Any]] = {}
    for number, (who, product, apart, cents, kind, instead) in enumerate(records):
        partition, second = who % TOPIC.partitions, PACE * number + apart
        if kind == MARK and seed % 4:
            continue
        if kind == MARK:
            bench.mark(partition, _moment(second))
            continue
        for _ in range(2 if kind == "twice" else 1):
            offset = bench.send(partition, order(who, product, second, cents, kind, f"o{number:02d}"))
        if kind == "invalid":
            wrong[partition, offset] = order(who, product, instead, cents, "", f"o{number:02d}")
    if end is not None:
        for partition in bench.logs:
            bench.mark(partition, _moment(end))
    closers = [Closer(bench, table) for table in bench.program.tables]
    _play(bench, rng, closers, dict(wrong))
    bench.accounting()

    duck = bench.duck()
    columns = [f.name for f in bench.program.schema.fields]
    duck.execute("create table corrections as select * from log limit 0")
    for (partition, offset), value in wrong.items():
        duck.execute(
            f'insert into corrections ({", ".join(columns)}, partition, "offset", kafka_millis)'
            f" values ({', '.join('?' * (len(columns) + 3))})",
            [*(value[name] for name in columns), partition, offset, 0],
        )
    duck.execute(f"create view taken as {TAKEN}")
    midway = [e.marker for log in bench.logs.values() for e in log[:-1] if e.marker is not None]
    marked = max([e.marker or 0 for log in bench.logs.values() for e in log]) if midway else None
    for closer, (_, by, where, lateness) in zip(closers, TABLES.values(), strict=True):
        sessions = SESSIONS.format(by=by, where=where)
        query = FINAL.format(sessions=sessions, by=by, where=where, come=COME, lateness=lateness)
        _compare(closer, {row[:2]: row[2:] for row in duck.sql(query).fetchall()}, marked)


def _play(bench: Bench, rng: random.Random, closers: Sequence[Closer], wrong: dict[tuple[int, int], Any]) -> None:
    """Consume, correct and close in random turns, with crashes, until nothing is left to do."""
    while behind := [p for p in bench.logs if bench.position(p) < bench.end(p)]:
        slow = min(behind, key=lambda p: bench.position(p) / bench.end(p))  # so that rows become final on the way
        partition = slow if rng.random() < 0.8 else rng.choice(behind)
        to = min(bench.end(partition), bench.position(partition) + rng.choice([1, 1, 1, 2, 3, 5]))
        bench.advance(partition, to, rng.choice(STEPS) if rng.random() < 0.1 else None)
        _close(rng, closers)
    while wrong or rng.random() < 0.8:
        if wrong:
            at = rng.choice(list(wrong))
            assert bench.correct(*at, wrong.pop(at))
        bench.decide(rng.choice(list(bench.logs)), rng.choice([None, *CORRECTION_STEPS]))
        _close(rng, closers)
    for partition in bench.logs:
        for _ in range(2):
            bench.decide(partition)
    for closer in closers:
        while closer.step() or closer.late():
            pass


def _close(rng: random.Random, closers: Sequence[Closer]) -> None:
    for closer in closers:
        if rng.random() < 0.5:
            closer.step(rng.choice(CLOSING_STEPS) if rng.random() < 0.15 else None)


def _compare(closer: Closer, expected: dict[tuple[Any, ...], Any], marked: int | None) -> None:
    assert [seq for seq, _, _ in closer.records] == list(range(1, len(closer.records) + 1))
    last: dict[tuple[Any, ...], Any] = {}
    revisions: dict[tuple[Any, ...], list[int]] = {}
    for row in closer.decoded():
        key = ("".join(row[name] for name in closer.table.table.by), micros(row["windowStart"]))
        measures = tuple(row[name] for name in MEASURES)
        assert (set(measures) == {None}) == row["withdrawn"]
        last[key] = None if row["withdrawn"] else (micros(row["windowEnd"]), *measures)
        revisions.setdefault(key, []).append(row["revision"])
    for key, seen in revisions.items():
        assert seen == list(range(1, len(seen) + 1)), key
    standing = {key: row for key, row in last.items() if row is not None}
    assert {key: standing[key] for key in expected if key in standing} == expected, closer.table.name
    # A marker that was the end for a time closes what records after it open again: emitted, and not final by now.
    assert all(marked is not None and key[-1] <= marked for key in standing.keys() - expected.keys())
    shown = {
        ("".join(row[name] for name in closer.table.table.by), micros(row["windowStart"])): row["revision"]
        for row in closer.bench.rows(f"{closer.table.name}_final")
    }
    assert expected.keys() <= shown.keys() <= standing.keys()
    assert all(revision == revisions[key][-1] for key, revision in shown.items())


def _moment(second: int) -> int:
    return micros(MIDNIGHT.replace(tzinfo=UTC)) + second * 1_000_000


@pytest.mark.parametrize(
    ("first", "then", "records"),
    [
        # minutes of orders, later ones after an order at 100 -> start, end and orders (None: withdrawn) that come then
        ([0, 15], [8], [(15, 25, None), (0, 25, 3)]),  # two become one
        ([10], [5], [(10, 20, None), (5, 20, 2)]),  # begins earlier
        ([0], [3], [(0, 13, 2)]),  # goes on and is final
        ([0, 95], [8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88], [(0, 10, None)]),  # goes on and is open again
        ([89], [95], [(89, 99, None)]),  # by a record that is in time itself
        ([0], [91], []),  # has nothing to do with it
        ([0, 15, 30], [38, 23, 8], [(15, 25, None), (30, 40, None), (0, 48, 6)]),
    ],
)
def test_what_is_a_session_no_more_is_withdrawn(
    db: Connection, first: list[int], then: list[int], records: list[tuple[int, int, int | None]]
) -> None:
    bench = Bench(db, topic(), [replace(VISITS, source=topic())])
    closer = Closer(bench, bench.program.tables[0])
    for minutes in ([*first, 100], then):
        for minute in minutes:
            bench.send(0, order(0, 0, minute * 60, 100, "", "o"))
        bench.advance(0, bench.end(0))
        before = len(closer.records)
        while closer.step():
            pass
    assert [
        (_minute(row["windowStart"]), _minute(row["windowEnd"]), row["orders"]) for row in closer.decoded()[before:]
    ] == records
    bench.send(0, order(0, 0, 200 * 60, 100, "", "o"))
    bench.advance(0, bench.end(0))
    while closer.step():
        pass
    standing: dict[int, Any] = {}
    for row in closer.decoded():
        standing[_minute(row["windowStart"])] = row["orders"]
    rows = {_minute(row["windowStart"]): row["orders"] for row in bench.rows("visits")}
    assert {start: orders for start, orders in standing.items() if orders} == {
        start: orders for start, orders in rows.items() if start < 200
    }


def _minute(at: datetime) -> int:
    return (at - MIDNIGHT.replace(tzinfo=UTC)) // timedelta(minutes=1)


def test_much_at_once_is_closed_in_steps(db: Connection) -> None:
    with patch.object(final_compile, "_AT_ONCE", 4):
        bench = Bench(db, topic(), [replace(VISITS, source=topic())])
    closer = Closer(bench, bench.program.tables[0])
    for minute in range(0, 600, 15):
        bench.send(0, order(minute % 3, 0, minute * 60, 100, "", "o"))
    bench.advance(0, bench.end(0))
    sizes = []
    while closer.step():
        sizes.append(len(closer.records))
    assert len(closer.records) == len(bench.rows("visits")) - 1 == len(bench.rows("visits_final"))
    assert max(after - before for before, after in zip([0, *sizes], sizes, strict=False)) <= 5
