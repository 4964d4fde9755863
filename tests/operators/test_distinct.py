"""count(distinct): any order, cuts, crashes and corrections give what a query written by hand over the log gives."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ledger import Connection
from tests.operators.bench import CORRECTION_STEPS, STEPS, Bench
from tests.operators.conftest import EXAMPLES
from tests.operators.test_measures import MINUTE, message, messages
from topology import Aggregate, Hopping, Session, Topic, Tumbling

LONG = "x" * 63
MEASURES = {
    "words": "count(distinct word)",
    "n": "count(*)",
    "odd": "count(distinct case when pieces % 2 <> 0 then pieces end)",
    "prices": "count(distinct cast(money as decimal(18,2)))",
    "again": "count(distinct word)",
    "days": "count(distinct make_timestamptz(moment // 1200000000 * 1200000000))",
    "known": "count(distinct word is null)",
}
SOME = ("words", "n")
ONLY = ("words",)  # a table without any other state
RECORDS = st.lists(
    st.tuples(
        st.integers(0, 2),  # partition
        st.integers(-10, 39),  # minute
        st.sampled_from("ab"),
        st.none() | st.integers(-2, 2),  # cents
        st.none() | st.integers(-3, 3),
        st.none() | st.sampled_from(["", "a", "A", "é", "\n", LONG, LONG + "x", LONG + "é", LONG * 90]),
        st.sampled_from([1, 1, 1, None]),  # None: invalid, and corrected now and then
    ),
    max_size=40,
)
# What the measures are of the records of each (group, window) in `held`.
COUNTED = """
    select g, start, count(distinct word), count(*),
        count(distinct pieces) filter (pieces % 2 <> 0), count(distinct round(money * 100)), count(distinct word),
        count(distinct moment // 1200000000), count(distinct word is null)
    from held group by all
"""
HELD = {
    "always": "select id as g, 0 as start, * from taken",
    "tumbling": f"select id as g, floor(moment / {10 * MINUTE})::bigint * {10 * MINUTE} as start, * from taken",
    "everyone": f"select '' as g, floor(moment / {10 * MINUTE})::bigint * {10 * MINUTE} as start, * from taken",
    "hopping": f"""
        select id as g, start, taken.* from taken
        join (select unnest(range({-40 * MINUTE}, {60 * MINUTE}, {4 * MINUTE})) as start) s
            on moment >= start and moment < start + {10 * MINUTE}
    """,
}
PLAYED = settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)


@pytest.fixture(scope="module")
def topic(tmp_path_factory: pytest.TempPathFactory) -> Topic:
    made = messages(tmp_path_factory.mktemp("schema"))
    return replace(made, require={"right": "big is not null"})


def of(names: Iterable[str]) -> dict[str, str]:
    return {name: MEASURES[name] for name in names}


def tables(topic: Topic) -> list[Aggregate]:
    return [
        Aggregate("always", topic, ["id"], of(ONLY)),
        Aggregate("tumbling", topic, ["id"], MEASURES, window=Tumbling("10 minutes")),
        Aggregate("everyone", topic, [], of(ONLY), window=Tumbling("10 minutes")),
        Aggregate("hopping", topic, ["id"], of(SOME), window=Hopping("10 minutes", every="4 minutes")),
    ]


def sent(bench: Bench, records: list[tuple[Any, ...]], *, by_key: bool = False) -> dict[tuple[int, int], Any]:
    """Fill the log; what the invalid records of it should have been."""
    wrong = {}
    for partition, minute, who, cents, pieces, word, valid in records:
        money = None if cents is None else cents / 100
        value = message(id=who, moment=minute * MINUTE, money=money, pieces=pieces, word=word, big=valid)
        at = "ab".index(who) if by_key else partition
        offset = bench.send(at, value)
        if valid is None:
            wrong[at, offset] = {**value, "big": 1}
    return wrong


def play(bench: Bench, rng: random.Random, wrong: dict[tuple[int, int], Any]) -> dict[tuple[int, int], Any]:
    """Consume everything and correct some dead letters meanwhile, with crashes; the corrected records."""
    bench.db.execute("delete from ledger.corrections")  # of an earlier example: the topic is not the same
    said: dict[tuple[int, int], Any] = {}
    while behind := [p for p in bench.logs if bench.position(p) < bench.end(p)]:
        partition = rng.choice(behind)
        at, end = bench.position(partition), bench.end(partition)
        to = rng.randint(at + 1, min(end, at + rng.choice([1, 3, 10, 1_000])))
        bench.advance(partition, to, rng.choice(STEPS) if rng.random() < 0.15 else None)
        read = [spot for spot in wrong if spot[1] < bench.position(spot[0])]
        if read and rng.random() < 0.3:
            spot = rng.choice(read)
            assert bench.correct(*spot, wrong[spot])
            said[spot] = wrong.pop(spot)
        bench.decide(partition, rng.choice(CORRECTION_STEPS) if rng.random() < 0.2 else None)
    for partition in bench.logs:
        bench.decide(partition)
    bench.accounting()
    return said


def evaluated(bench: Bench, corrected: dict[tuple[int, int], Any]) -> Any:
    """DuckDB with the valid records of the log and the corrected ones as table `taken`."""
    duck = bench.duck()
    columns = [f.name for f in bench.program.schema.fields]
    duck.execute(f"create table taken as select {', '.join(columns)} from log where big is not null")
    for value in corrected.values():
        duck.execute(f"insert into taken values ({', '.join('?' * len(columns))})", [value[c] for c in columns])
    return duck


@PLAYED
@given(records=RECORDS, seed=st.integers(0, 2**32))
def test_equals_the_batch_query(db: Connection, topic: Topic, records: list[tuple[Any, ...]], seed: int) -> None:
    bench = Bench(db, topic, tables(topic))
    duck = evaluated(bench, play(bench, random.Random(seed), sent(bench, records)))
    for name, held in HELD.items():
        expected = duck.sql(f"with held as ({held}) {COUNTED}").fetchall()
        rows = found(bench, name)
        assert rows == sorted(row[: len(rows[0]) if rows else None] for row in expected), name


@PLAYED
@given(records=RECORDS, seed=st.integers(0, 2**32))
def test_of_sessions(db: Connection, topic: Topic, records: list[tuple[Any, ...]], seed: int) -> None:
    bench = Bench(db, topic, [Aggregate("sessions", topic, ["id"], of(SOME), window=Session("3 minutes"))])
    duck = evaluated(bench, play(bench, random.Random(seed), sent(bench, records, by_key=True)))
    expected = duck.sql(f"""
        with begun as (
            select distinct id, moment as start from taken where not exists (
                select 1 from taken o where o.id = taken.id
                and o.moment < taken.moment and taken.moment - o.moment < {3 * MINUTE})
        ), held as (
            select id as g, (select max(start) from begun b where b.id = taken.id and start <= moment) as start, *
            from taken
        ) {COUNTED}
    """).fetchall()
    rows = found(bench, "sessions")
    assert rows == sorted(row[: len(rows[0]) if rows else None] for row in expected)


def found(bench: Bench, name: str) -> list[tuple[Any, ...]]:
    """Group, start and measures of each row, in order."""
    return sorted(
        (
            row.get("id", ""),
            round(row["windowStart"].timestamp() * 1_000_000) if "windowStart" in row else 0,
            *(row[measure] for measure in MEASURES if measure in row),
        )
        for row in bench.rows(name)
    )


def test_a_value_counts_once_whatever_generation_it_was_written_in(db: Connection, topic: Topic) -> None:
    (table,) = (table for table in tables(topic) if table.name == "hopping")
    bench = Bench(db, topic, [table])
    for partition in (0, 1, 2):
        bench.send(partition, message(word="a", big=1))
    bench.play(random.Random(1))
    (version,) = bench.program.tables
    assert {row["words"] for row in bench.rows("hopping")} == {1}
    db.execute("insert into ledger.generations values (%s, '1970-01-01', 1)", (version.version_id,))
    assert bench.rows("hopping") == []
    bench.send(0, message(word="b", big=1))
    bench.send(0, message(word="c", big=1))
    bench.play(random.Random(1))
    assert {row["words"] for row in bench.rows("hopping")} == {2}


def test_values_go_with_the_table(db: Connection, topic: Topic) -> None:
    bench = Bench(db, topic, tables(topic))
    bench.send(0, message(word="a", big=1))
    bench.play(random.Random(1))
    bench.rebuild()
    assert bench.rows("always") == []
    bench.play(random.Random(1))
    assert [row["words"] for row in bench.rows("always")] == [1]


def test_no_query_reads_all_values_for_each_row(db: Connection, topic: Topic) -> None:
    bench = Bench(db, topic, tables(topic))
    for name in ("always", "tumbling", "hopping"):
        first, side, *_ = next(t for t in bench.program.tables if t.name == name).parts
        window = "" if name == "always" else ", '1970-01-01', 0"
        make = "from generate_series(1, 20000) as i, lateral (select i || '' as k) as k"
        named = '"id"' + ("" if name == "always" else ", window_start, gen")
        db.execute(f"insert into {first.state_table} ({named}, shard) select k{window}, 0 {make}".encode())
        value = '"#value"'
        db.execute(f"insert into {side.state_table} ({named}, {value}, shard) select k{window}, 'v', 0 {make}".encode())
        plan = "\n".join(row[0] for row in db.execute(f"explain select id, words from public.{name}".encode()))
        assert "SubPlan" in plan, plan
        assert f"Seq Scan on {side.state_table.partition('.')[2].strip(chr(34))}" not in plan, plan
