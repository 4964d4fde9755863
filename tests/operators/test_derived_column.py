"""Derived columns: what a query written by hand over the log gives, in every kind of table."""

from __future__ import annotations

import math
import random
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import Connection
from tests.operators.bench import Bench
from tests.operators.test_distinct import PLAYED
from tests.operators.test_final import Closer
from tests.operators.test_measures import MINUTE, message, messages
from topology import Aggregate, Count, Final, Hopping, Session, Topic, TopK, Tumbling

MEASURES = {
    "sales": "sum(cast(money as decimal(18,2)))",
    "n": "count(*)",
    "total": "sum(pieces)",
    "words": "count(distinct word)",
    "first": "first(word)",
    "least": "min(word)",
    "mean": "avg(pieces)",
    "rough": "sum(money)",
}
DERIVED = {
    "basket": "sales / n",
    "each": "sales / total",
    "rest": "total % (n - 2)",
    "variety": "round(words / n, 3)",
    "size": "case when sales > 20 then 'large' when sales is null then '{none}' else 'small' end",
    "half": "(1 / 2) * n",
    "bounded": "greatest(-2, least(coalesce(total, -1), 2.5))",
    "steps": "floor(mean) + ceil(mean) - abs(mean)",
    "odd": "n % 2 <> 0 and not (sales between -1 and 1) or id in ('b', 'c')",
    "word": "coalesce(nullif(least, ''), first, id)",
    "earlier": "least < 'a' and id = 'a'",
    "named": "case id when 'a' then null else n end",
}
# The same over the measures, in DuckDB, with doubles where it has no wider numbers.
BY_HAND = """
    select id, start, sales::double / n, sales::double / nullif(total, 0),
        total::int % nullif(n::int - 2, 0), round(words::double / n, 3),
        case when sales > 20 then 'large' when sales is null then '{none}' else 'small' end,
        0.5 * n, greatest(-2, least(coalesce(total, -1), 2.5)), floor(mean) + ceil(mean) - abs(mean),
        n % 2 <> 0 and not (sales between -1 and 1) or id in ('b', 'c'),
        coalesce(nullif(least, ''), first, id), least < 'a' and id = 'a', case id when 'b' then n end
    from (
        select id, start, sum(money::decimal(18,2)) as sales, count(*) as n, sum(pieces) as total,
            count(distinct word) as words, min(word) as least, avg(pieces) as mean,
            (list(word order by moment, partition, "offset") filter (word is not null))[1] as first
        from held group by all
    )
"""
HELD = {
    "always": "select *, 0 as start from log",
    "hopping": f"""
        select log.*, start from log
        join (select unnest(range({-12 * MINUTE}, {20 * MINUTE}, {4 * MINUTE})) as start) s
            on moment >= start and moment < start + {10 * MINUTE}
    """,
}


@pytest.fixture(scope="module")
def topic(tmp_path_factory: pytest.TempPathFactory) -> Topic:
    return messages(tmp_path_factory.mktemp("schema"))


def table(topic: Topic, name: str, derived: dict[str, str] = DERIVED, **changes: Any) -> Aggregate:
    return Aggregate(name, topic, ["id"], MEASURES, derived=derived, approx=True, **changes)


@PLAYED
@given(
    records=st.lists(
        st.tuples(
            st.integers(0, 2),  # partition
            st.integers(0, 14),  # minute
            st.sampled_from("ab"),
            st.none() | st.integers(-2_000, 2_000),  # cents
            st.none() | st.integers(-4, 4),
            st.none() | st.sampled_from(["", "a", "B", "é"]),
        ),
        max_size=25,
    ),
    seed=st.integers(0, 2**32),
)
def test_equals_the_batch_query(db: Connection, topic: Topic, records: list[tuple[Any, ...]], seed: int) -> None:
    hopping = table(topic, "hopping", window=Hopping("10 minutes", every="4 minutes"))
    bench = Bench(db, topic, [table(topic, "always"), hopping])
    for partition, minute, who, cents, pieces, word in records:
        money = None if cents is None else cents / 100
        bench.send(partition, message(id=who, moment=minute * MINUTE, money=money, pieces=pieces, word=word))
    bench.play(random.Random(seed))
    bench.accounting()
    duck = bench.duck()
    for name, held in HELD.items():
        found = {
            (row["id"], round(row["windowStart"].timestamp() * 1_000_000) if name == "hopping" else 0): [
                row[column] for column in DERIVED
            ]
            for row in bench.rows(name)
        }
        expected = {row[:2]: row[2:] for row in duck.sql(f"with held as ({held}) {BY_HAND}").fetchall()}
        assert found.keys() == expected.keys(), name
        for key, values in expected.items():
            for column, one, other in zip(DERIVED, found[key], values, strict=True):
                assert same(one, other), (name, key, column, one, other)


def same(found: Any, expected: Any) -> bool:
    if isinstance(found, Decimal) and expected is not None:
        return math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-9)
    return bool(found == expected)


def test_windows_can_be_named_and_a_view_can_follow(db: Connection, topic: Topic) -> None:
    derived = {"before": '"windowStart" < "windowEnd"', "last": "windowEnd", "basket": "sales / n"}
    visits = table(topic, "visits", derived, window=Session("5 minutes"))
    days = table(topic, "days", derived, window=Tumbling("1 day", zone="Europe/Berlin"))
    plain = Aggregate("plain", topic, ["id"], {"n": "count(*)"}, window=Count(2), derived={"left": "2 - windowRecords"})
    bench = Bench(db, topic, [visits, days, plain, TopK("best", visits, k=1, by="basket")])
    for minute in (0, 1, 9):
        bench.send(0, message(moment=minute * MINUTE, money=float(minute)))
    bench.play(random.Random(1), crash=0)
    for name in ("visits", "days"):
        for row in bench.rows(name):
            assert (row["before"], row["last"]) == (True, row["windowEnd"])
            assert same(row["basket"], row["sales"] / row["n"])
    assert sorted(row["basket"] for row in bench.rows("best")) == [Decimal("0.5"), 9]
    assert sorted(row["left"] for row in bench.rows("plain")) == [0, 1]


def test_final_rows_have_their_distinct_values_and_derived_columns(db: Connection, topic: Topic) -> None:
    derived = {
        "basket": "sales / n",
        "many": """case when words % 2 = 0 then '50% {more} \\' else 'it''s odd %s' end""",
        "rest": "n % 3",
    }
    for window in (Tumbling("10 minutes"), Hopping("20 minutes", every="10 minutes")):
        of = table(topic, "emitting", derived, window=window, emit=Final("emitted"))
        bench = Bench(db, topic, [of])
        for partition in (0, 1, 2):
            bench.send(partition, message(money=2.5, word="a"))
            bench.mark(partition, 60 * MINUTE)
        bench.play(random.Random(1), crash=0)
        closer = Closer(bench, bench.program.tables[0])
        while closer.step():
            pass
        bench.send(0, message(money=2.5, word="b"))
        bench.play(random.Random(1), crash=0)
        while closer.step():
            pass
        emitted: dict[Any, list[Any]] = {}
        for row in closer.decoded():
            emitted.setdefault(row["windowStart"], []).append(
                (row["revision"], row["words"], row["basket"], row["many"], row["rest"])
            )
        revisions = [(1, 1, Decimal("2.5"), "it's odd %s", 0), (2, 2, Decimal("2.5"), "50% {more} \\", 1)]
        assert list(emitted.values()) == [revisions] * (2 if isinstance(window, Hopping) else 1)


def test_no_number_makes_a_query_fail(db: Connection, topic: Topic) -> None:
    derived = {"a": "rough * rough * rough / n", "b": "rough % 7 - rough", "c": "round(rough, 2) / (rough - rough)"}
    bench = Bench(db, topic, [table(topic, "always", derived)])
    bench.send(0, message(id="huge", money=1e14))
    for partition, money in enumerate((1e15, 1e15, -2e15)):
        bench.send(partition, message(id="none", money=money))
    bench.send(0, message())
    bench.play(random.Random(1), crash=0)
    rows = {row["id"]: (row["a"], row["b"], row["c"]) for row in bench.rows("always")}
    assert rows["a"] == (None, None, None)
    assert rows["none"] == (0, 0, None)
    assert rows["huge"][0] == Decimal("1e42")
