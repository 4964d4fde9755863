"""Joins of two logs: whatever order, cuts and crashes, they show what a query written by hand over the logs up to the
two positions gives; a row without match is shown when the opposite partition's watermark is far enough, not before."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ledger import Connection
from stream_workers.versions import register
from tests.operators.bench import CORRECTION_STEPS, STEPS, Bench
from tests.operators.conftest import EXAMPLES
from tests.topology.declare import schema_file
from topology import EventTime, Join, Latest, Topic
from topology.join_compile import compile_join, with_joins

MINUTE = 60_000_000
LOW, HIGH, LATE = -5, 10, 3  # minutes
SENT = st.lists(
    st.tuples(
        st.integers(0, 1),  # left, right
        st.integers(0, 1),  # partition, whatever the key
        st.sampled_from([0, 4, 5, 6, 10, 11, 13, 15, 18, 23, 40]),  # minute; many pairs lie at an edge, or just beside
        st.sampled_from("ab"),
        st.integers(0, 3),  # pieces; 0 is refused
        st.sampled_from(["", "", "", "", "again", "delete", "mark"]),
    ),
    min_size=8,
    max_size=40,
)
# By join: kind, the rows of the left and of the right table.
JOINS = {
    "pairs": ("inner", "left_all", "right_all"),
    "outer": ("left", "left_all", "right_all"),
    "newest": ("left", "left_new", "right_new"),
    "mixed": ("left", "left_all", "right_new"),
}
# Over {side}_log: every entry up to the position and, as `corrected`, the last word on dead letters before it. The
# watermark before a deletion is its event time; without one it deletes nothing.
ROWS = """
    create table {side}_marks as
        select partition, max(t) as watermark from {side}_log
         where what = 'mark' or (what = 'record' and pieces > 0) group by partition;
    create table {side}_versions as
        select id, t, pieces, partition, number, false as deleted from {side}_log
         where what in ('record', 'corrected') and pieces > 0
        union all
        select * from (
            select d.id, (select max(o.t) from {side}_log o where o.partition = d.partition and o.number < d.number
                             and (o.what = 'mark' or (o.what = 'record' and o.pieces > 0))) as t,
                   null, d.partition, d.number, true
              from {side}_log d where d.what = 'delete') where t is not null;
    create table {side}_all as select * from {side}_versions where not deleted;
    create table {side}_new as
        select * from (select *, row_number() over (partition by id order by t desc, partition desc, number desc) as nth
                         from {side}_versions) where nth = 1 and not deleted
"""
EXPECTED = """
    with pairs as (
        select l.id, l.pieces as lp, r.pieces as rp, l.t as lt, r.t as rt, l.partition, l.number
          from {left} l, {right} r where l.id = r.id and r.t - l.t >= {low} and r.t - l.t <= {high}
    )
    select id, lp, rp, lt, rt, true from pairs
    union all
    select id, pieces, null, t, null, false from {left} l
     where {outer} and not exists (select 1 from pairs p where p.partition = l.partition and p.number = l.number)
       and exists (select 1 from right_marks m where m.partition = l.partition and m.watermark >= l.t + {high} + {late})
"""


@dataclass
class Two:
    """Both pipelines, and what the logs have made of them."""

    db: Connection
    left: Topic
    right: Topic
    said: dict[tuple[str, int, int], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.sides = {topic.name: Bench(self.db, topic, tables(topic)) for topic in (self.left, self.right)}
        programs = {t.name: t for bench in self.sides.values() for t in bench.program.tables}
        made = [compile_join(join, programs, "tests") for join in joins(self.left, self.right)]
        for bench in self.sides.values():
            bench.program = with_joins(bench.program, made)
            register(self.db, bench.program)

    def step(self, rng: random.Random) -> None:
        """Consume a batch of either side, or correct one of its dead letters; now and then with a crash."""
        side = rng.choice([*self.sides])
        bench = self.sides[side]
        partition = rng.randrange(2)
        at, end = bench.position(partition), bench.end(partition)
        if at < end:
            to = rng.randint(at + 1, min(end, at + rng.choice([1, 3, 10])))
            bench.advance(partition, to, rng.choice(STEPS) if rng.random() < 0.15 else None)
        refused = [
            (e.offset, e.value)
            for e in bench.logs[partition]
            if e.offset < bench.position(partition) and e.value is not None and e.value["pieces"] == 0
        ]
        if refused and rng.random() < 0.3:
            offset, value = rng.choice(refused)
            if (side, partition, offset) not in self.said:
                self.said[side, partition, offset] = pieces = rng.randint(1, 3)
                assert bench.correct(partition, offset, {**value, "pieces": pieces})
                bench.decide(partition, rng.choice(CORRECTION_STEPS) if rng.random() < 0.3 else None)
        self._settle()

    def _settle(self) -> None:
        for bench in self.sides.values():
            for partition in range(2):
                bench.decide(partition)

    @property
    def behind(self) -> bool:
        return any(b.position(p) < b.end(p) for b in self.sides.values() for p in range(2))

    def verify(self) -> None:
        """Each join is what the query gives, at the positions where the workers stand now."""
        duck = duckdb.connect()
        for side, bench in self.sides.items():
            duck.register("entries", self._entries(side, bench))
            duck.execute(f"create table {side}_log as select * from entries")
            duck.execute(ROWS.format(side=side))
            bench.accounting()
        for name, (kind, left, right) in JOINS.items():
            bounds = {"low": LOW * MINUTE, "high": HIGH * MINUTE, "late": LATE * MINUTE}
            text = EXPECTED.format(left=left, right=right, outer=kind == "left", **bounds)
            found = [
                (
                    row["id"],
                    *(row[f"{table}_pieces"] for table in (left, right)),
                    *(micros(row[f"{table}_time"]) for table in (left, right)),
                    row.get("matched", True),
                )
                for row in self.sides["left"].rows(name)
            ]
            assert sorted(found, key=repr) == sorted(duck.sql(text).fetchall(), key=repr), name

    def _entries(self, side: str, bench: Bench) -> pa.Table:
        rows: list[tuple[int, int, str, str | None, int | None, int | None]] = []
        for partition, log in bench.logs.items():
            for entry in log[: len([e for e in log if e.offset < bench.position(partition)])]:
                at = (partition, entry.offset)
                if entry.marker is not None:
                    rows.append((*at, "mark", None, entry.marker, None))
                elif entry.value is None:
                    rows.append((*at, "delete", (entry.key or b"").decode(), None, None))
                else:
                    value = entry.value
                    rows.append((*at, "record", value["id"], value["moment"], value["pieces"]))
                    if (side, *at) in self.said:
                        rows.append((*at, "corrected", value["id"], value["moment"], self.said[(side, *at)]))
        kinds = (pa.int64(), pa.int64(), pa.string(), pa.string(), pa.int64(), pa.int64())
        names = ["partition", "number", "what", "id", "t", "pieces"]
        return pa.table([pa.array([r[n] for r in rows], kind) for n, kind in enumerate(kinds)], names=names)


def micros(at: Any) -> int | None:
    return None if at is None else round(at.timestamp() * 1e6)


def tables(topic: Topic) -> list[Latest]:
    """Of every version and of the newest: `left_all`, `left_new`, `right_all`, `right_new`."""
    return [
        Latest(f"{topic.name}_{what}", topic, ["id"], {f"{topic.name}_{what}_pieces": "pieces"}, history=what == "all")
        for what in ("all", "new")
    ]


def joins(left: Topic, right: Topic) -> list[Join]:
    by_name = {table.name: table for table in (*tables(left), *tables(right))}
    return [
        Join(
            name,
            by_name[one],
            by_name[two],
            {"id": "id"},
            (f"{LOW} minutes", f"{HIGH} minutes"),
            "left" if kind == "left" else "inner",
            f"{LATE} minutes" if kind == "left" else "0 seconds",
        )
        for name, (kind, one, two) in JOINS.items()
    ]


@pytest.fixture(scope="module")
def topics(tmp_path_factory: pytest.TempPathFactory) -> tuple[Topic, Topic]:
    return pair(tmp_path_factory.mktemp("schema"))


def pair(folder: Path) -> tuple[Topic, Topic]:
    path = schema_file(
        folder,
        {"name": "id", "type": "string"},
        {"name": "moment", "type": "long"},
        {"name": "pieces", "type": "int"},
    )
    left = Topic(
        "left",
        schema=path,
        key="id",
        event_time=EventTime("moment", "us"),
        partitions=2,
        require={"some": "pieces > 0"},
        not_before="1969-01-01",
    )
    return left, replace(left, name="right")


def send(two: Two, sent: Sequence[tuple[int, int, int, str, int, str]]) -> None:
    for side, partition, minute, key, pieces, what in sent:
        bench = two.sides["right" if side else "left"]
        if what == "mark":
            bench.mark(partition, minute * MINUTE)
        elif what == "delete":
            bench.delete(partition, key.encode())
        else:
            for _ in range(2 if what == "again" else 1):
                bench.send(partition, {"id": key, "moment": minute * MINUTE, "pieces": pieces})


@settings(
    max_examples=EXAMPLES if EXAMPLES > 15 else 10,  # two pipelines, and a query by hand at every other cut
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)
@given(sent=SENT, seed=st.integers(0, 2**32))
def test_equals_the_batch_query_at_every_cut(
    db: Connection, topics: tuple[Topic, Topic], sent: list[tuple[int, int, int, str, int, str]], seed: int
) -> None:
    rng = random.Random(seed)
    db.execute("delete from ledger.corrections")
    two = Two(db, *topics)
    send(two, sent)
    rebuilt = rng.choice([None, "left", "right"])
    while two.behind:
        two.step(rng)
        if rng.random() < 0.5:
            two.verify()
        if rebuilt and rng.random() < 0.1:
            two.sides[rebuilt].rebuild()
            rebuilt = None
            two.verify()
    two.verify()


def test_a_row_waits_for_the_opposite_watermark_and_a_later_match_replaces_it(
    db: Connection, topics: tuple[Topic, Topic]
) -> None:
    two = Two(db, *topics)
    left, right = two.sides["left"], two.sides["right"]

    def shown() -> list[tuple[Any, ...]]:
        for bench in (left, right):
            bench.play(random.Random(1), crash=0)
        return [(row["left_all_pieces"], row["right_all_pieces"], row["matched"]) for row in left.rows("outer")]

    send(two, [(0, 0, 0, "a", 1, "")])
    assert shown() == []  # the right table has no position yet
    send(two, [(0, 0, 90, "b", 2, ""), (1, 1, 90, "c", 1, "")])
    assert shown() == []  # neither its own watermark counts, nor that of another partition
    right.mark(0, (HIGH + LATE) * MINUTE - 1)
    assert shown() == []
    right.mark(0, (HIGH + LATE) * MINUTE)
    assert shown() == [(1, None, False)]
    send(two, [(1, 0, HIGH, "a", 3, ""), (1, 0, HIGH + 1, "a", 4, ""), (1, 1, LOW, "a", 5, "")])
    assert sorted(shown()) == [(1, 3, True), (1, 5, True)]


def test_the_last_of_its_pipelines_to_come_makes_it(db: Connection, topics: tuple[Topic, Topic]) -> None:
    two = Two(db, *topics)
    left, right = two.sides["left"], two.sides["right"]

    def made() -> list[str]:
        return [name for (name,) in db.execute("select view_name from ledger.views order by 1").fetchall()]

    assert made() == sorted(JOINS)
    before = db.execute("select made_at from ledger.views order by view_name").fetchall()
    register(db, right.program)
    assert db.execute("select made_at from ledger.views order by view_name").fetchall() == before
    programs = {t.name: t for t in (*left.program.tables, *right.program.tables)}
    other = replace(joins(*topics)[0], within=("0 minutes", "1 minute"))
    changed = compile_join(other, programs, "tests")
    assert changed.ddl != next(join.ddl for join in left.program.joins if join.name == other.name)
    register(db, replace(left.program, joins=(changed,)))  # one is made anew, three are gone
    assert made() == [other.name] and left.rows(other.name) == []


def test_a_changed_table_takes_the_join_with_it_and_brings_it_back(db: Connection, topics: tuple[Topic, Topic]) -> None:
    left_topic, right_topic = topics
    two = Two(db, left_topic, right_topic)
    left = two.sides["left"]
    send(two, [(0, 0, 0, "a", 1, ""), (1, 0, 1, "a", 2, "")])
    for bench in two.sides.values():
        bench.play(random.Random(1), crash=0)
    assert [row["right_all_pieces"] for row in left.rows("pairs")] == [2]
    changed = [replace(table, where="pieces > 1") for table in tables(right_topic)]
    right = Bench(db, right_topic, changed)  # drops what there was, as `pipeline rebuild` does
    assert db.execute("select count(*) from ledger.views").fetchone() == (0,)
    programs = {t.name: t for t in (*left.program.tables, *right.program.tables)}
    by_name = {table.name: table for table in (*tables(left_topic), *changed)}
    again = [
        compile_join(replace(join, right=by_name[join.right.name]), programs, "tests")
        for join in joins(left_topic, right_topic)
    ]
    register(db, with_joins(left.program, again))
    assert left.rows("pairs") == []
    right.send(0, {"id": "a", "moment": MINUTE, "pieces": 3})
    right.play(random.Random(1), crash=0)
    assert [row["right_all_pieces"] for row in left.rows("pairs")] == [3]
