"""Chains of two joins: at every cut of three logs what a query written by hand over them gives."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ledger import Connection
from stream_workers.versions import register
from tests.operators.bench import Bench
from tests.operators.conftest import EXAMPLES
from tests.operators.test_joins import HIGH, LATE, LOW, MINUTE, ROWS, Two, micros, pair, tables
from topology import Join, Topic
from topology.join_compile import compile_join, with_joins

AFTER, WAIT = 6, 2  # minutes: the second bound is from 0 to `AFTER`
SENT = st.lists(
    st.tuples(
        st.integers(0, 2),  # left, right, third
        st.integers(0, 1),  # partition, whatever the key
        st.sampled_from([0, 4, 5, 6, 10, 11, 13, 15, 18, 23, 40]),  # minute
        st.sampled_from("ab"),
        st.integers(0, 3),  # pieces; 0 is refused
        st.sampled_from(["", "", "", "again", "delete", "mark", "mark"]),
    ),
    min_size=8,
    max_size=40,
)
# By chain: kinds of the two joins, and the rows of the three tables.
CHAINS = {
    "inner_inner": ("inner", "inner", "all", "all", "all"),
    "left_left": ("left", "left", "all", "all", "all"),
    "left_inner": ("left", "inner", "all", "new", "all"),
    "inner_left": ("inner", "left", "new", "all", "new"),
}
FIRST = """
    create or replace temp table one as
    with pairs as (
        select l.id, l.pieces as lp, r.pieces as rp, l.t as lt, r.t as rt, l.partition, l.number
          from left_{left} l, right_{right} r where l.id = r.id and r.t - l.t between {low} and {high}
    )
    select *, row_number() over () as name from (
        select id, lp, rp, lt, rt, true as matched, case when rt > lt then rt else lt end as t, partition from pairs
        union all
        select id, pieces, null, t, null, false, t, partition from left_{left} l
         where {outer} and not exists (select 1 from pairs p where p.partition = l.partition and p.number = l.number)
           and exists (select 1 from right_marks m where m.partition = l.partition and m.watermark >= l.t + {due})
    )
"""
SECOND = """
    with triples as (
        select one.*, c.pieces as cp, c.t as ct from one, third_{third} c
         where c.id = one.id and c.t >= one.t and c.t <= one.t + {after}
    )
    select id, lp, rp, lt, rt, matched, cp, ct, true from triples
    union all
    select id, lp, rp, lt, rt, matched, null, null, false from one
     where {outer} and name not in (select name from triples)
       and exists (select 1 from third_marks m where m.partition = one.partition and m.watermark >= one.t + {due})
"""


@dataclass
class Three(Two):
    """Three pipelines, and what the logs have made of them."""

    third: Topic = field(kw_only=True)

    def __post_init__(self) -> None:
        topics = (self.left, self.right, self.third)
        self.sides = {topic.name: Bench(self.db, topic, tables(topic)) for topic in topics}
        programs = {t.name: t for bench in self.sides.values() for t in bench.program.tables}
        made = [compile_join(chain, programs, "tests") for chain in chains(*topics)]
        for bench in self.sides.values():
            bench.program = with_joins(bench.program, made)
            register(self.db, bench.program)

    def verify(self) -> None:
        duck = duckdb.connect()
        for side, bench in self.sides.items():
            duck.register("entries", self._entries(side, bench))
            duck.execute(f"create table {side}_log as select * from entries")
            duck.execute(ROWS.format(side=side))
        for name, (first, second, left, right, third) in CHAINS.items():
            bound = {"low": LOW * MINUTE, "high": HIGH * MINUTE, "due": (HIGH + LATE) * MINUTE}
            duck.execute(FIRST.format(left=left, right=right, outer=first == "left", **bound))
            due = {"after": AFTER * MINUTE, "due": (AFTER + WAIT) * MINUTE}
            expected = duck.sql(SECOND.format(third=third, outer=second == "left", **due)).fetchall()
            found = [
                (
                    row["id"],
                    row[f"left_{left}_pieces"],
                    row[f"right_{right}_pieces"],
                    micros(row[f"left_{left}_time"]),
                    micros(row[f"right_{right}_time"]),
                    row.get("matched", True),
                    row[f"third_{third}_pieces"],
                    micros(row[f"third_{third}_time"]),
                    row.get(f"third_{third}_matched", True),
                )
                for row in self.sides["left"].rows(name)
            ]
            assert sorted(found, key=repr) == sorted(expected, key=repr), name


def chains(*topics: Topic) -> list[Join]:
    by_name = {table.name: table for topic in topics for table in tables(topic)}
    found = []
    for name, (first, second, left, right, third) in CHAINS.items():
        one = Join(
            f"{name}_first",
            by_name[f"left_{left}"],
            by_name[f"right_{right}"],
            {"id": "id"},
            (f"{LOW} minutes", f"{HIGH} minutes"),
            "left" if first == "left" else "inner",
            f"{LATE} minutes" if first == "left" else "0 seconds",
        )
        two = replace(
            one,
            name=name,
            left=one,
            right=by_name[f"third_{third}"],
            within=("0 minutes", f"{AFTER} minutes"),
            kind="left" if second == "left" else "inner",
            lateness=f"{WAIT} minutes" if second == "left" else "0 seconds",
        )
        found.append(two)
    return found


@pytest.fixture(scope="module")
def topics(tmp_path_factory: pytest.TempPathFactory) -> tuple[Topic, Topic, Topic]:
    return three(tmp_path_factory.mktemp("schema"))


def three(folder: Path) -> tuple[Topic, Topic, Topic]:
    left, right = pair(folder)
    return left, right, replace(left, name="third")


def send(of: Three, sent: Sequence[tuple[int, int, int, str, int, str]]) -> None:
    for side, partition, minute, key, pieces, what in sent:
        bench = [*of.sides.values()][side]
        if what == "mark":
            bench.mark(partition, minute * MINUTE)
        elif what == "delete":
            bench.delete(partition, key.encode())
        else:
            for _ in range(2 if what == "again" else 1):
                bench.send(partition, {"id": key, "moment": minute * MINUTE, "pieces": pieces})


@settings(
    max_examples=EXAMPLES if EXAMPLES > 15 else 8,  # three pipelines, and a query by hand at every other cut
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)
@given(sent=SENT, seed=st.integers(0, 2**32))
def test_equals_the_batch_query_at_every_cut(
    db: Connection, topics: tuple[Topic, Topic, Topic], sent: list[tuple[int, int, int, str, int, str]], seed: int
) -> None:
    rng = random.Random(seed)
    db.execute("delete from ledger.corrections")
    of = Three(db, *topics[:2], third=topics[2])
    send(of, sent)
    rebuilt = rng.choice([None, "left", "right", "third"])
    while of.behind:
        of.step(rng)
        if rng.random() < 0.4:
            of.verify()
        if rebuilt and rng.random() < 0.1:
            of.sides[rebuilt].rebuild()
            rebuilt = None
            of.verify()
    of.verify()


def test_a_row_waits_for_the_watermark_of_the_third_topic(db: Connection, topics: tuple[Topic, Topic, Topic]) -> None:
    of = Three(db, *topics[:2], third=topics[2])
    left, right, third = of.sides.values()

    def shown() -> list[tuple[object, ...]]:
        for bench in of.sides.values():
            bench.play(random.Random(1), crash=0)
        rows = left.rows("left_left")
        return [(row["right_all_pieces"], row["third_all_pieces"], row["third_all_matched"]) for row in rows]

    send(of, [(0, 0, 0, "a", 1, ""), (1, 0, 4, "a", 2, ""), (2, 1, 90, "a", 3, "")])
    right.mark(0, 90 * MINUTE)
    left.mark(0, 90 * MINUTE)
    assert shown() == []  # neither the marks of the others count, nor another partition
    third.mark(0, (4 + AFTER + WAIT) * MINUTE - 1)  # the pair is of minute 4
    assert shown() == []
    third.mark(0, (4 + AFTER + WAIT) * MINUTE)
    assert shown() == [(2, None, False)]
    send(of, [(2, 0, 4 + AFTER, "a", 5, "")])
    assert shown() == [(2, 5, True)]


def test_rows_of_all_three_tables_are_found_by_key(db: Connection, topics: tuple[Topic, Topic, Topic]) -> None:
    of = Three(db, *topics[:2], third=topics[2])
    for bench in of.sides.values():
        for number in range(3_000):
            bench.send(number % 2, {"id": f"k{number}", "moment": MINUTE, "pieces": 1})
        bench.play(random.Random(1), crash=0)
    db.execute("analyze")
    plan = "\n".join(row for (row,) in db.execute("explain select * from inner_inner where id = 'k7'"))
    assert plan.count("Index") >= 3 and "Seq Scan" not in plan, plan
