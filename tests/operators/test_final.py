"""Final rows as records: each revision once, the last one what a query over the log gives, whatever crashes when."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

import fastavro
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from headrace.errors import Fenced
from ledger import Connection, closings, outbox
from ledger.outbox import CLOSER
from stream_workers.emit.closing import close
from stream_workers.emit.steps import EmitStep
from tests.operators.bench import CORRECTION_STEPS, STEPS, Bench, Crash
from tests.operators.conftest import EXAMPLES
from tests.topology.declare import MONEY, NOON_MICROS, ORDER, PER_PRODUCT, topic
from topology import Final, Hopping, Tumbling, final_compile
from topology.program import TableProgram

TOPIC = topic(partitions=2)
MEASURES = {
    **PER_PRODUCT.measures,
    "mean": f"avg({MONEY})",
    "newest": f"last({MONEY})",
    "times": "count(distinct orderTimestamp)",
}
QUARTERS = replace(
    PER_PRODUCT,
    name="quarters",
    source=TOPIC,
    measures=MEASURES,
    allowed_lateness="5 minutes",
    emit=Final("quarters-final"),
)
HOPS = replace(
    QUARTERS, name="hops", window=Hopping("30 minutes", "20 minutes"), allowed_lateness="0s", emit=Final("hops-final")
)
DAYS = replace(
    QUARTERS,
    name="days",
    by=["productId", "status"],
    where=None,
    window=Tumbling("1 hour", "Europe/Berlin"),
    emit=Final("days-final"),
)
TABLES = {"quarters": QUARTERS, "hops": HOPS, "days": DAYS}
MARK = "end of input"
CLOSING_STEPS = (EmitStep.LOCKED, EmitStep.STAGED, EmitStep.KEPT, EmitStep.OUTBOXED, EmitStep.CLOSED)

ENTRIES = st.lists(
    st.tuples(
        st.integers(0, 1),  # partition
        st.integers(0, 240),  # minute
        st.integers(0, 2),  # product
        st.integers(1, 9_999),  # cents
        st.sampled_from(["COMPLETED", "COMPLETED", "COMPLETED", "FAILED", "invalid", MARK]),
    ),
    max_size=30,
)

# Windows by hand, of good records and of those that were corrected; how far the partitions have come, and their ends.
QUERY = """
with done as (
    select *, epoch_us(orderTimestamp::timestamptz) as moment from taken where {where}
), windows as (
    select {keys}, start, start + {size} as stop, count(*) as orders, sum(orderAmount::decimal(18,2)) as total,
        avg(orderAmount::decimal(18,2)) as mean,
        (list(orderAmount::decimal(18,2) order by moment, partition, "offset"))[-1] as newest,
        count(distinct orderTimestamp) as times
    from done join (select unnest(range(1767225600000000, 1769904000000000, {every})) as start)
        on moment >= start and moment < start + {size} group by all
), come as (
    select partition, max(micros) as watermark, (list(marked order by "offset"))[-1] as ended from (
        select partition, "offset", epoch_us(orderTimestamp::timestamptz) as micros, null::bigint as marked from log
        where orderAmount > 0
        union all select partition, "offset", null, null from log where orderAmount <= 0
        union all select partition, "offset", marker, marker from nulls
    ) group by partition
), through as (
    select min(watermark) as by_now, case when count(ended) = 2 then min(ended) end as by_end from come
    having count(watermark) = 2
)
select windows.* from windows, through where stop + {lateness} <= by_now or start <= by_end
"""


def value(minute: int, product: int, cents: int, kind: str) -> dict[str, Any]:
    return {
        **ORDER,
        "productId": f"p{product}",
        "orderAmount": -1.0 if kind == "invalid" else cents / 100,
        "orderTimestamp": f"2026-01-10T{12 + minute // 60:02d}:{minute % 60:02d}:30Z",
        "status": "FAILED" if kind == "FAILED" else "COMPLETED",
    }


@dataclass
class Closer:
    """The closer of one table, as its thread runs it, and a Kafka that is a list."""

    bench: Bench
    table: TableProgram
    records: list[tuple[int, bytes | None, bytes | None]] = field(default_factory=list)
    at: int = 0
    claim: closings.Claim | None = None

    def step(self, crash: EmitStep | None = None) -> bool:
        """Close once, then publish a little; whether there was something to do."""
        db = self.bench.db
        self.claim = self.claim or closings.claim(db, self.table.version_id, "bench")
        try:
            given = (self.table, self.bench.topic.partitions, self.claim.epoch, 7)
            closed = close(db, _crash(crash), *given, 1_000)
        except Crash:
            self.claim = None
            return True
        rows = outbox.unsent(db, self.table.version_id, CLOSER, self.at, 5)
        if rows:
            assert [row.seq for row in rows] == list(range(self.at + 1, self.at + 1 + len(rows)))
            self.records += [(row.seq, row.key, row.payload) for row in rows]
            self.at = rows[-1].seq
            closings.sent(db, self.table.version_id, self.claim.epoch, self.at)
        return bool(rows) or closed.more or bool(closed.records)

    def late(self) -> int:
        """Entries that nobody has taken away yet."""
        late = f'{self.table.state_table[:-1]}__late"'
        return len(self.bench.db.execute(f"select from {late}".encode()).fetchall())

    def decoded(self) -> list[dict[str, Any]]:
        final = self.table.final
        assert final is not None
        schema = fastavro.parse_schema(json.loads(final.topic.shape.text))
        found = []
        for _, key, payload in self.records:
            assert payload is not None and payload[:5] == b"\0\0\0\0\7"
            row: Any = fastavro.schemaless_reader(io.BytesIO(payload[5:]), schema)
            keys = [row[name] for name in self.table.table.by]
            assert (key or b"").decode() == (keys[0] if len(keys) == 1 else json.dumps(keys))
            found.append(row)
        return found


def _crash(at: EmitStep | None) -> Callable[[EmitStep], None]:
    def hit(step: EmitStep) -> None:
        if step is at:
            raise Crash(step)

    return hit


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)
@given(entries=ENTRIES, seed=st.integers(0, 2**32), end=st.sampled_from([None, 100, 300]))
def test_the_last_revision_is_what_the_query_gives(
    db: Connection, entries: list[tuple[int, int, int, int, str]], seed: int, end: int | None
) -> None:
    rng = random.Random(seed)
    with patch.object(final_compile, "_AT_ONCE", rng.choice([4, 20_000])):
        bench = Bench(db, TOPIC, list(TABLES.values()))
    db.execute("delete from ledger.corrections")  # of an earlier example: the topic is not the same
    taken = []
    for partition, minute, product, cents, kind in entries:
        if kind == MARK:
            bench.mark(partition, NOON_MICROS + minute * 60_000_000)
        else:
            offset = bench.send(partition, value(minute, product, cents, kind))
            if kind == "invalid":
                taken.append((partition, offset, value(minute, product, cents, "COMPLETED")))
    if end is not None:
        for partition in bench.logs:
            bench.mark(partition, NOON_MICROS + end * 60_000_000)
    closers = [Closer(bench, table) for table in bench.program.tables]
    wanted = list(taken)
    while True:
        behind = [p for p in bench.logs if bench.position(p) < bench.end(p)]
        turn = rng.random()
        if behind and turn < 0.4:
            partition = rng.choice(behind)
            to = min(bench.end(partition), bench.position(partition) + rng.choice([1, 2, 5, 40]))
            bench.advance(partition, to, rng.choice(STEPS) if rng.random() < 0.2 else None)
        elif wanted and turn < 0.5 and not behind:
            partition, offset, fixed = wanted.pop()
            assert bench.correct(partition, offset, fixed)
        elif turn < 0.55:
            bench.decide(rng.choice(list(bench.logs)), rng.choice([None, *CORRECTION_STEPS]))
        elif behind or wanted or turn < 0.95:
            rng.choice(closers).step(rng.choice(CLOSING_STEPS) if rng.random() < 0.3 else None)
        else:
            break
    for partition in bench.logs:
        for _ in range(2):
            bench.decide(partition)
    for closer in closers:
        while closer.step() or closer.late():
            pass
    bench.accounting()

    duck = bench.duck()
    columns = 'productId, orderAmount, orderTimestamp, status, partition, "offset"'
    duck.execute(f"create table taken as select {columns} from log where orderAmount > 0")
    for partition, offset, fixed in taken:
        duck.execute(
            "insert into taken values (?, ?, ?, ?, ?, ?)",
            [*(fixed[name] for name in ("productId", "orderAmount", "orderTimestamp", "status")), partition, offset],
        )
    lasts = [e.marker for log in bench.logs.values() for e in log if e.marker is not None]
    for closer, (keys, where, size, every, lateness) in zip(
        closers,
        (
            ("productId", "status = 'COMPLETED'", 15, 15, 5),
            ("productId", "status = 'COMPLETED'", 30, 20, 0),
            ("productId, status", "true", 60, 60, 5),
        ),
        strict=True,
    ):
        minutes = {"size": size, "every": every, "lateness": lateness}
        query = QUERY.format(keys=keys, where=where, **{name: n * 60_000_000 for name, n in minutes.items()})
        expected = {}
        for row in duck.sql(query).fetchall():
            *key, start, stop, orders, total, mean, newest, times = row
            expected[(*key, start)] = (stop, orders, total, round(mean, 6), newest, times)
        _compare(closer, expected, max(lasts, default=None))


def _compare(closer: Closer, expected: dict[tuple[Any, ...], Any], marked: int | None) -> None:
    assert [seq for seq, _, _ in closer.records] == list(range(1, len(closer.records) + 1))
    last: dict[tuple[Any, ...], Any] = {}
    revisions: dict[tuple[Any, ...], list[int]] = {}
    for row in closer.decoded():
        key = (*(row[name] for name in closer.table.table.by), _micros(row["windowStart"]))
        stop = _micros(row["windowEnd"])
        last[key] = (stop, row["orders"], row["total"], round(float(row["mean"]), 6), row["newest"], row["times"])
        revisions.setdefault(key, []).append(row["revision"])
    for key, seen in revisions.items():
        assert seen == list(range(1, len(seen) + 1)), key
    assert {key: last[key] for key in expected if key in last} == expected, closer.table.name
    # A marker at the end closes what records after it opened again: emitted, and not final by now.
    assert all(marked is not None and key[-1] <= marked for key in last.keys() - expected.keys())
    shown = {
        (*(row[name] for name in closer.table.table.by), _micros(row["windowStart"])): row["revision"]
        for row in closer.bench.rows(f"{closer.table.name}_final")
    }
    assert shown == {key: seen[-1] for key, seen in revisions.items()}


def _micros(at: datetime) -> int:
    return round(at.timestamp() * 1_000_000)


def test_a_partition_without_a_record_holds_rows_back_until_it_ends(db: Connection) -> None:
    bench = Bench(db, TOPIC, [QUARTERS])
    closer = Closer(bench, bench.program.tables[0])
    bench.send(0, value(0, 1, 100, "COMPLETED"))
    bench.send(0, value(100, 1, 100, "COMPLETED"))
    bench.play(random.Random(1), crash=0)
    bench.position(1)  # opened, and nothing in it
    while closer.step():
        pass
    assert closer.records == []
    bench.mark(1, NOON_MICROS + 30 * 60_000_000)
    bench.play(random.Random(1), crash=0)
    while closer.step():
        pass
    assert [row["windowStart"] for row in closer.decoded()] == [datetime(2026, 1, 10, 12, tzinfo=UTC)]


@pytest.mark.parametrize("table", [QUARTERS, HOPS, DAYS], ids=lambda table: table.name)
def test_much_at_once_is_closed_in_steps_and_whole(db: Connection, table: Any) -> None:
    with patch.object(final_compile, "_AT_ONCE", 4):
        bench = Bench(db, TOPIC, [table])
    for minute in range(0, 600, 10):
        for partition in (0, 1):
            bench.send(partition, value(minute, minute // 10 % 3, 100, "COMPLETED"))
    bench.play(random.Random(1), crash=0)
    (program,) = bench.program.tables
    claim = closings.claim(db, program.version_id, "bench")
    ends, more = [], True
    while more:
        closed = close(db, _crash(None), program, 2, claim.epoch, 7, 1_000)
        through = closings.lock(db, program.version_id, claim.epoch).closed_through
        assert through is not None
        ends.append(through)
        more = closed.more
    assert len(ends) > 3 and ends == sorted(set(ends))
    done = [row for row in bench.rows(table.name) if _micros(row["windowEnd"]) <= ends[-1]]
    assert ends[-1] == NOON_MICROS + 590 * 60_000_000 + 30_000_000 - program.lateness_micros
    assert len(bench.rows(f"{table.name}_final")) == len(done) == closed.outbox_seq


def test_nothing_is_closed_while_too_much_waits_for_kafka(db: Connection) -> None:
    bench = Bench(db, TOPIC, [QUARTERS])
    (table,) = bench.program.tables
    for minute in (0, 30, 60, 90):
        for partition in (0, 1):
            bench.send(partition, value(minute, 1, 100, "COMPLETED"))
    bench.play(random.Random(1), crash=0)
    claim = closings.claim(db, table.version_id, "bench")
    one = (db, _crash(None), table, 2, claim.epoch, 7)
    assert close(*one, 3).records == 3
    bench.send(0, value(200, 1, 100, "COMPLETED"))
    bench.send(1, value(200, 1, 100, "COMPLETED"))
    bench.play(random.Random(1), crash=0)
    assert close(*one, 3).records == 0
    closings.sent(db, table.version_id, claim.epoch, 1)
    assert close(*one, 3).records == 1
    assert db.execute("select min(seq), max(seq), count(*) from ledger.outbox").fetchone() == (2, 4, 3)


def test_notes_that_change_nothing_final_are_taken_without_a_pause(db: Connection) -> None:
    with patch.object(final_compile, "_AT_ONCE", 4):
        bench = Bench(db, TOPIC, [QUARTERS])
    (table,) = bench.program.tables
    bench.position(0)
    late = f'{table.state_table[:-1]}__late"'
    made = "select 'p' || n, timestamptz '2026-01-10Z' from generate_series(1, 9) as n"
    db.execute(f'insert into {late} ("productId", window_start) {made}'.encode())
    claim = closings.claim(db, table.version_id, "bench")
    found = [close(db, _crash(None), table, 2, claim.epoch, 7, 10) for _ in range(4)]
    assert [one.more for one in found] == [True, True, False, False]
    assert not db.execute(f"select from {late}".encode()).fetchall()


def test_of_two_closers_only_the_newest_writes(db: Connection) -> None:
    bench = Bench(db, TOPIC, [QUARTERS])
    (table,) = bench.program.tables
    old = closings.claim(db, table.version_id, "old")
    new = closings.claim(db, table.version_id, "new")
    with pytest.raises(Fenced):
        close(db, _crash(None), table, 2, old.epoch, 7, 10)
    with pytest.raises(Fenced):
        closings.sent(db, table.version_id, old.epoch, 0)
    close(db, _crash(None), table, 2, new.epoch, 7, 10)
