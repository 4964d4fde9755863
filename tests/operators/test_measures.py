"""Measures of every kind: any order, any cuts, any crash give what a query written by hand over the log gives."""

from __future__ import annotations

import math
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ledger import Connection
from stream_workers.routing import Poison
from tests.operators.bench import Bench
from tests.operators.conftest import EXAMPLES
from tests.topology.declare import schema_file
from topology import Aggregate, EventTime, Topic, Tumbling

MINUTE = 60_000_000
MONEY = "cast(money as decimal(18,2))"
MEASURES = {
    "n": "count(*)",
    "total": f"sum({MONEY})",
    "deviation": f"stddev({MONEY})",
    "deviation_all": f"stddev_pop({MONEY})",
    "variance": "var_samp(pieces)",
    "variance_all": "var_pop(pieces)",
    "big_deviation": "stddev_samp(big)",
    "first_money": f"first({MONEY})",
    "last_money": f"last({MONEY})",
    "first_word": "first(word)",
    "last_word": "last(word)",
    "last_even": "last(case when pieces % 2 = 0 then pieces end)",
}
RECORDS = st.lists(
    st.tuples(
        st.integers(0, 2),  # partition
        st.integers(0, 19),  # minute
        st.sampled_from("ab"),
        st.none() | st.integers(-99_999, 9_999_999),  # cents
        st.none() | st.integers(-4, 4),
        st.none() | st.integers(-(2**40), 2**40),
        st.none() | st.sampled_from(["", "a", "B", "é", "\n"]),
    ),
    max_size=40,
)
EXPECTED = """
    with means as (
        select id, moment // 600000000 as w,
            avg(cast(money as decimal(18,2))) as money, avg(pieces) as pieces, avg(big) as big
        from log group by all
    )
    select l.id, l.moment // 600000000, count(*), sum(cast(l.money as decimal(18,2))),
        sqrt(sum((cast(l.money as decimal(18,2)) - m.money) ** 2) / nullif(count(l.money) - 1, 0)),
        sqrt(sum((cast(l.money as decimal(18,2)) - m.money) ** 2) / nullif(count(l.money), 0)),
        sum((l.pieces - m.pieces) ** 2) / nullif(count(l.pieces) - 1, 0),
        sum((l.pieces - m.pieces) ** 2) / nullif(count(l.pieces), 0),
        sqrt(sum((l.big - m.big) ** 2) / nullif(count(l.big) - 1, 0)),
        (list(l.money::decimal(18,2) order by l.moment, l.partition, l.offset) filter (l.money is not null))[1],
        (list(l.money::decimal(18,2) order by l.moment, l.partition, l.offset) filter (l.money is not null))[-1],
        (list(l.word order by l.moment, l.partition, l.offset) filter (l.word is not null))[1],
        (list(l.word order by l.moment, l.partition, l.offset) filter (l.word is not null))[-1],
        (list(l.pieces order by l.moment, l.partition, l.offset) filter (l.pieces % 2 = 0))[-1]
    from log l join means m on m.id = l.id and m.w = l.moment // 600000000
    group by all
"""


@pytest.fixture(scope="module")
def topic(tmp_path_factory: pytest.TempPathFactory) -> Topic:
    return messages(tmp_path_factory.mktemp("schema"))


def messages(folder: Path) -> Topic:
    nullable = [("money", "double"), ("pieces", "int"), ("big", "long"), ("word", "string")]
    path = schema_file(
        folder,
        {"name": "id", "type": "string"},
        {"name": "moment", "type": "long"},
        *({"name": name, "type": ["null", kind], "default": None} for name, kind in nullable),
    )
    return Topic(
        "messages", schema=path, key="id", event_time=EventTime("moment", "us"), partitions=3, not_before="1969-01-01"
    )


def message(**values: Any) -> dict[str, Any]:
    return {"id": "a", "moment": 0, "money": None, "pieces": None, "big": None, "word": None, **values}


def same(found: Any, expected: Any) -> bool:
    """Equal, or so close that only the doubles of the evaluation differ."""
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
def test_equals_the_batch_query(db: Connection, topic: Topic, records: list[tuple[Any, ...]], seed: int) -> None:
    bench = Bench(db, topic, [Aggregate("measured", topic, ["id"], MEASURES, window=Tumbling("10 minutes"))])
    for partition, minute, who, cents, pieces, big, word in records:
        money = None if cents is None else cents / 100
        bench.send(partition, message(id=who, moment=minute * MINUTE, money=money, pieces=pieces, big=big, word=word))
    bench.play(random.Random(seed))
    bench.accounting()
    found = {
        (row["id"], int(row["windowStart"].timestamp()) // 600): [row[name] for name in MEASURES]
        for row in bench.rows("measured")
    }
    expected = {(row[0], row[1]): row[2:] for row in bench.duck().sql(EXPECTED).fetchall()}
    assert found.keys() == expected.keys()
    for key, values in expected.items():
        for name, one, other in zip(MEASURES, found[key], values, strict=True):
            assert same(one, other), (key, name, one, other)


def table(topic: Topic, measures: dict[str, str], **changes: Any) -> Aggregate:
    return Aggregate("measured", topic, ["id"], measures, **changes)


def test_a_spread_far_smaller_than_its_values_does_not_cancel(db: Connection, topic: Topic) -> None:
    measures = {"s": "stddev(big - 500)", "v": "var_pop(cast(big // 100 as decimal(18,2)))"}
    bench = Bench(db, topic, [table(topic, measures)])
    for partition, big in ((0, 10**17), (1, 10**17 + 100), (2, 10**17 + 200), (0, None)):
        bench.send(partition, message(big=big))
    bench.play(random.Random(1), crash=0)
    (row,) = bench.rows("measured")
    assert row["s"] == 100
    assert math.isclose(row["v"], Decimal(2) / 3, rel_tol=1e-15)


def test_squares_that_outgrow_a_batch_are_counted_in_smaller_ones(db: Connection, topic: Topic) -> None:
    bench = Bench(db, topic, [table(topic, {"v": "var_pop(big)", "n": "count(big)"})])
    values = [2**63 - 1, -(2**63), 2**63 - 1, -(2**63)]
    for big in values:
        bench.send(0, message(big=big))
    with pytest.raises(Poison):  # the loop halves such a batch until it fits
        bench.advance(0, 4)
    bench.restart(0)
    for offset in range(1, 5):
        bench.advance(0, offset)
    (row,) = bench.rows("measured")
    mean = Decimal(sum(values)) / 4
    assert row["n"] == 4
    assert math.isclose(row["v"], sum((value - mean) ** 2 for value in values) / 4, rel_tol=1e-15)


def test_one_value_has_no_sample_spread_and_no_value_none_at_all(db: Connection, topic: Topic) -> None:
    measures = {name: f"{name}(pieces)" for name in ("stddev_samp", "stddev_pop", "var_samp", "var_pop")}
    bench = Bench(db, topic, [table(topic, measures)])
    bench.send(0, message(id="none"))
    bench.send(0, message(id="one", pieces=7))
    bench.play(random.Random(1), crash=0)
    found = {row["id"]: [row[name] for name in measures] for row in bench.rows("measured")}
    assert found == {"none": [None] * 4, "one": [None, 0, None, 0]}


def test_an_approximate_spread_of_doubles_is_possible_where_asked_for(db: Connection, topic: Topic) -> None:
    bench = Bench(db, topic, [table(topic, {"s": "stddev(money)", "v": "var_pop(money)"}, approx=True)])
    for partition, money in ((0, 2.5), (1, 3.5), (2, 4.5)):
        bench.send(partition, message(money=money))
    bench.play(random.Random(1), crash=0)
    assert bench.rows("measured") == [{"id": "a", "s": pytest.approx(1), "v": pytest.approx(2 / 3)}]
    bench.send(0, message(money=1e200))
    with pytest.raises(Poison, match="too large for a double"):
        bench.advance(0, 2)


def test_equal_event_times_are_told_apart_by_partition_then_offset(db: Connection, topic: Topic) -> None:
    bench = Bench(db, topic, [table(topic, {"first": "first(word)", "last": "last(word)"})])
    for partition, word in ((2, "2a"), (2, None), (1, "1a"), (1, "1b"), (2, "2b"), (0, None)):
        bench.send(partition, message(word=word, moment=-MINUTE))  # before 1970, where a sign could turn the order
    for partition in (2, 0, 1):
        for offset in range(1, bench.end(partition) + 1):
            bench.advance(partition, offset)
    assert bench.rows("measured") == [{"id": "a", "first": "1a", "last": "2b"}]


def test_a_record_that_comes_late_can_be_the_first_and_none_takes_a_place_twice(db: Connection, topic: Topic) -> None:
    bench = Bench(db, topic, [table(topic, {"first": "first(pieces)", "last": "last(pieces)"})])
    for minute, pieces in ((5, 50), (9, 90), (1, 10), (9, None), (3, 30)):
        bench.send(0, message(moment=minute * MINUTE, pieces=pieces))
        bench.advance(0, bench.end(0))
    assert bench.rows("measured") == [{"id": "a", "first": 10, "last": 90}]
