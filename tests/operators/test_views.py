"""Follow-on views: whatever order, cuts and crashes, they show what a query written by hand over the log gives."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from headrace.errors import Terminal
from ledger import Connection
from stream_workers.versions import register
from tests.operators.bench import Bench
from tests.operators.conftest import EXAMPLES
from tests.topology.declare import schema_file
from topology import Aggregate, EventTime, Rolling, Topic, TopK, Tumbling, compile_pipeline

MINUTE = 60_000_000
COLUMNS = {"average": "avg(total)", "slope": "trend(total)", "score": "anomaly(total)", "per": "avg(records)"}
RECORDS = st.lists(
    st.tuples(
        st.integers(0, 2),  # partition
        st.integers(-2, 14),  # minute
        st.sampled_from("ab"),
        st.sampled_from(["", "B", "a", "é"]),
        st.none() | st.integers(-4, 4),
    ),
    max_size=40,
)
# The last three windows are those up to two before; windows of `t` are rows of the table, of `f` all from the first on.
TABLE = """
    create table t as select id, floor(moment / 60000000)::bigint as w, sum(pieces) as v, count(*) as c from log
        group by all;
    create table f as
        select g.id, g.w, coalesce(t.v, 0) as v, coalesce(t.c, 0) as c
        from (select id, unnest(range(min(w), max(w) + 1)) as w from t group by id) g left join t using (id, w)
"""
ROLLING = """
    select a.id, a.w,
        (select avg(b.v) from {windows} b where b.id = a.id and b.w between a.w - 2 and a.w),
        (select covar_pop(b.v, b.w - a.w) / nullif(var_pop(b.w - a.w) filter (b.v is not null), 0)
            from {windows} b where b.id = a.id and b.w between a.w - 2 and a.w),
        (select ({value} - avg(b.v)) / nullif(stddev_samp(b.v), 0)
            from {windows} b where b.id = a.id and b.w between a.w - 3 and a.w - 1),
        (select avg(b.c) from {windows} b where b.id = a.id and b.w between a.w - 2 and a.w)
    from t a
"""
BEST = """
    select w, id, rank from (
        select id, w, row_number() over (partition by w order by v desc, id) as rank from t where v is not null
    ) where rank <= 1
"""
LEAST = """
    select id, word, rank from (
        select id, word, row_number() over (partition by id order by sum(pieces), word) as rank
        from log group by id, word having sum(pieces) is not null
    ) where rank <= 2
"""


@pytest.fixture(scope="module")
def topic(tmp_path_factory: pytest.TempPathFactory) -> Topic:
    return messages(tmp_path_factory.mktemp("schema"))


def messages(folder: Path) -> Topic:
    path = schema_file(
        folder,
        {"name": "id", "type": "string"},
        {"name": "word", "type": "string"},
        {"name": "moment", "type": "long"},
        {"name": "pieces", "type": ["null", "int"], "default": None},
    )
    return Topic(
        "messages", schema=path, key="id", event_time=EventTime("moment", "us"), partitions=3, not_before="1969-01-01"
    )


def counted(topic: Topic, **changes: Any) -> Aggregate:
    measures = {"total": "sum(pieces)", "records": "count(*)"}
    return replace(Aggregate("counted", topic, ["id"], measures, window=Tumbling("1 minute")), **changes)


def message(**values: Any) -> dict[str, Any]:
    return {"id": "a", "word": "", "moment": 0, "pieces": 1, **values}


def same(found: Any, expected: Any) -> bool:
    """Equal, or so close that only the doubles of the evaluation differ."""
    if found is None or expected is None:
        return found is expected
    return math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-9)


def minute(row: dict[str, Any]) -> int:
    return int(row["windowStart"].timestamp()) // 60


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)
@given(records=RECORDS, seed=st.integers(0, 2**32))
def test_equals_the_batch_query(db: Connection, topic: Topic, records: list[tuple[Any, ...]], seed: int) -> None:
    of = counted(topic)
    words = counted(topic, name="words", by=["id", "word"], window=None)
    views = [
        Rolling("skipping", of, 3, COLUMNS),
        Rolling("filling", of, 3, COLUMNS, empty="zero"),
        TopK("best", of, 1, "total"),
        TopK("least", words, 2, "total", within=["id"], smallest=True),
    ]
    bench = Bench(db, topic, [of, words, *views])
    for partition, at, who, word, pieces in records:
        bench.send(partition, message(id=who, word=word, moment=at * MINUTE, pieces=pieces))
    bench.play(random.Random(seed))
    duck = bench.duck()
    duck.execute(TABLE)
    for view, windows, value in (("skipping", "t", "a.v"), ("filling", "f", "coalesce(a.v, 0)")):
        found = {(row["id"], minute(row)): [row[name] for name in COLUMNS] for row in bench.rows(view)}
        queried = duck.sql(ROLLING.format(windows=windows, value=value)).fetchall()
        expected = {(row[0], row[1]): row[2:] for row in queried}
        assert found.keys() == expected.keys()
        for key, values in expected.items():
            for name, one, other in zip(COLUMNS, found[key], values, strict=True):
                assert same(one, other), (view, key, name, one, other)
    best = sorted((minute(row), row["id"], row["rank"]) for row in bench.rows("best"))
    assert best == sorted(duck.sql(BEST).fetchall())
    least = sorted((row["id"], row["word"], row["rank"]) for row in bench.rows("least"))
    assert least == sorted(duck.sql(LEAST).fetchall())


def test_a_trend_of_large_values_over_short_windows_does_not_cancel(db: Connection, topic: Topic) -> None:
    of = counted(topic, measures={"x": "sum(cast(pieces as bigint) + 900000000000000000)"}, window=Tumbling("1 second"))
    for empty in ("skip", "zero"):
        view = Rolling("rolled", of, 3, {"slope": "trend(x)", "score": "anomaly(x)"}, empty=empty)
        bench = Bench(db, topic, [of, view])
        for second, pieces in ((0, 1), (1, 2), (2, 3), (3, 6)):
            bench.send(0, message(moment=1_900_000_000_000_000 + second * 1_000_000, pieces=pieces))
        bench.play(random.Random(1), crash=0)
        rows = sorted(bench.rows("rolled"), key=lambda row: row["windowStart"])
        assert [row["slope"] for row in rows] == [None, 1, 1, 2]
        assert [row["score"] for row in rows[:2]] == [None, None]
        assert [float(row["score"]) for row in rows[2:]] == [pytest.approx(1.5 / 0.5**0.5), pytest.approx(4)]


def test_windows_without_keys_are_rolled_and_ranked_all_together(db: Connection, topic: Topic) -> None:
    of = counted(topic, by=[])
    words = counted(topic, name="words", by=["word"], window=None, measures={"word_last": "max(word)"})
    views = [Rolling("rolled", of, 2, {"average": "avg(records)"}, empty="zero"), TopK("best", words, 1, "word_last")]
    bench = Bench(db, topic, [of, words, *views])
    for at, word in ((0, "z"), (3, "é")):
        bench.send(0, message(moment=at * MINUTE, word=word))
    bench.play(random.Random(1), crash=0)
    assert sorted(float(row["average"]) for row in bench.rows("rolled")) == [0.5, 1]
    assert [(row["word"], row["rank"]) for row in bench.rows("best")] == [("é", 1)]  # by bytes, not as a dictionary


def test_a_changed_view_is_made_anew_without_its_table_and_a_removed_one_goes(db: Connection, topic: Topic) -> None:
    of = counted(topic)
    bench = Bench(db, topic, [of, TopK("best", of, 1, "total"), TopK("first", of, 1, "records")])
    bench.send(0, message(id="a", pieces=1))
    bench.send(1, message(id="b", pieces=2))
    bench.play(random.Random(1), crash=0)
    best = bench.rows("best")
    assert [row["id"] for row in best] == ["b"]
    made = "select view_name, made_at from ledger.views order by 1"
    before = db.execute(made.encode()).fetchall()
    register(db, bench.program)
    assert db.execute(made.encode()).fetchall() == before  # nothing was done to what is as declared
    changed = compile_pipeline("messages", topic, [of, TopK("best", of, 2, "records")], place="tests")
    register(db, changed)
    assert [(row["id"], row["rank"]) for row in bench.rows("best")] == [("a", 1), ("b", 2)]
    assert [name for name, _ in db.execute(made.encode()).fetchall()] == ["best"]
    bench.rebuild()
    assert bench.rows("best") == []


def test_what_belongs_to_others_is_left_alone(db: Connection, topic: Topic) -> None:
    of = counted(topic)
    Bench(db, topic, [of])
    best = compile_pipeline("messages", topic, [of, TopK("best", of, 1, "total")], place="tests")
    db.execute("create view public.best as select 1 as mine")
    with pytest.raises(Terminal, match='there is another "best" in the schema public'):
        register(db, best)
    db.execute("drop view public.best")
    register(db, best)
    db.execute("create view public.mine as select * from public.best")
    with pytest.raises(Terminal, match="view mine depends on view best; nothing was changed"):
        register(db, compile_pipeline("messages", topic, [of], place="tests"))
    assert db.execute("select count(*) from public.mine").fetchone() == (0,)
