"""Windows of so many records of a key: whatever cuts and crashes, what one query over the log gives."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ledger import Connection
from tests.operators.bench import Bench
from tests.operators.conftest import EXAMPLES
from tests.topology.declare import MONEY, NOON_MICROS, ORDER, PER_CUSTOMER, topic
from topology import Count

TOPIC = topic(partitions=2)
MEASURES = {
    "total": f"sum({MONEY})",
    "least": f"min({MONEY})",
    "spread": f"stddev({MONEY})",
    "first_order": "first(orderId)",
    "last_order": "last(orderId)",
}
THREES = replace(PER_CUSTOMER, name="threes", source=TOPIC, measures=MEASURES, window=Count(3))
FIVES = replace(THREES, name="fives", by=["productId", "customerId"], where="status = 'COMPLETED'", window=Count(5))
TABLES = {"threes": (THREES, "customerId", "true"), "fives": (FIVES, "productId || customerId", FIVES.where)}

MARK = "end of input"
RECORDS = st.lists(
    st.tuples(
        st.integers(0, 2),  # customer, who has one partition
        st.integers(0, 1),  # product
        st.integers(0, 59),  # second
        st.integers(1, 9_999),  # cents
        st.sampled_from(["COMPLETED", "COMPLETED", "COMPLETED", "FAILED", "invalid", MARK]),
    ),
    max_size=60,
)
EXPECTED = """
with t as (
    select *, epoch_us(orderTimestamp::timestamptz) as micros, {by} as k,
        row_number() over (partition by {by} order by "offset") - 1 as number
    from log where orderAmount > 0 and {where}
)
select k, number // {size}, count(*), sum(orderAmount::decimal(18,2)), min(orderAmount::decimal(18,2)),
    stddev(orderAmount::decimal(18,2)), list(orderId order by micros, "offset")[1],
    list(orderId order by micros, "offset")[-1]
from t group by all
"""


def order(who: int, product: int, second: int, cents: int, kind: str, name: str) -> dict[str, Any]:
    return {
        **ORDER,
        "orderId": name,
        "customerId": f"c{who}",
        "productId": f"p{product}",
        "orderAmount": (-cents if kind == "invalid" else cents) / 100,
        "orderTimestamp": f"2026-01-10T12:00:{second:02d}Z",
        "status": "FAILED" if kind == "FAILED" else "COMPLETED",
    }


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
    bench = Bench(db, TOPIC, [table for table, *_ in TABLES.values()])
    for number, (who, product, second, cents, kind) in enumerate(records):
        if kind == MARK:
            bench.mark(who % 2, NOON_MICROS)
        else:
            bench.send(who % 2, order(who, product, second, cents, kind, f"o{number}"))
    bench.play(random.Random(seed))
    bench.accounting()
    duck = bench.duck()
    for name, (table, by, where) in TABLES.items():
        assert isinstance(table.window, Count)
        query = EXPECTED.format(by=by, where=where, size=table.window.records)
        expected = {(row[0], row[1]): row[2:] for row in duck.sql(query).fetchall()}
        rows = bench.rows(name)
        found = {
            (row.get("productId", "") + row["customerId"], row["windowNumber"]): [
                row["windowRecords"],
                *(row[measure] for measure in MEASURES),
            ]
            for row in rows
        }
        assert len(rows) == len(found)
        assert found.keys() == expected.keys(), name
        for key, sums in expected.items():
            for one, other in zip(found[key], sums, strict=True):
                assert same(one, other), (name, key, found[key], sums)


def test_the_last_window_can_be_read_while_it_fills(db: Connection) -> None:
    bench = Bench(db, TOPIC, [THREES])
    read = []
    for number in range(4):
        bench.send(0, order(0, 0, number, 100, "", f"o{number}"))
        bench.advance(0, bench.end(0))
        read.append(sorted((row["windowNumber"], row["windowRecords"], row["total"]) for row in bench.rows("threes")))
    assert read == [[(0, 1, 1)], [(0, 2, 2)], [(0, 3, 3)], [(0, 3, 3), (1, 1, 1)]]


def test_a_corrected_record_is_refused_for_others_have_been_counted_after_it(db: Connection) -> None:
    bench = Bench(db, TOPIC, [THREES, replace(PER_CUSTOMER, source=TOPIC)])
    db.execute("delete from ledger.corrections")
    bench.send(0, order(0, 0, 0, 100, "invalid", "wrong"))
    bench.send(0, order(0, 0, 1, 100, "", "right"))
    bench.play(random.Random(1))
    assert sorted(bench.correct(0, 0, order(0, 0, 0, 100, "", "corrected"))) == ["per_customer", "threes"]
    bench.decide(0)
    outcomes = "select split_part(table_version, '@', 1), outcome, reason from ledger.correction_outcomes order by 1"
    assert db.execute(outcomes).fetchall() == [
        ("per_customer", "replayed", ""),
        ("threes", "refused", "counted_by_offset"),
    ]
    assert [row["windowRecords"] for row in bench.rows("threes")] == [1]
    assert [row["orders"] for row in bench.rows("per_customer")] == [2]
    states = "select split_part(table_version, '@', 1), state from ledger.dead_letters order by 1"
    assert db.execute(states).fetchall() == [("per_customer", "replayed"), ("threes", "open")]
    bench.discard(0, 0, "threes")
    bench.decide(0)
    assert db.execute(states).fetchall() == [("per_customer", "replayed"), ("threes", "dropped")]
    bench.accounting()
