"""Late and duplicate records replayed; between random cuts, with crashes, and rebuilds under declarations by which
other records are late: each table is what one query over the log and the words on its records gives, nothing twice."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from headrace.errors import UsageError
from ledger import Connection, left_out
from tests.operators.bench import CORRECTION_STEPS, STEPS, Bench
from tests.operators.conftest import EXAMPLES
from tests.operators.test_dedup import FATES, ONCE, value
from tests.topology.declare import NOON_MICROS, PER_PRODUCT, topic

TOPIC = topic(partitions=2, key="orderId")
STRICT = replace(PER_PRODUCT, name="closed", source=TOPIC, dedup=ONCE, late="drop", allowed_lateness="5 minutes")
DECLARED = {
    "strict": STRICT,
    "patient": replace(STRICT, allowed_lateness="40 minutes"),
    "open": replace(STRICT, late="correct"),
    "twice": replace(STRICT, dedup=None),
}
MARK = "end of input"
RECORDS = st.lists(
    st.tuples(
        st.integers(0, 3),  # order: of partition 0 or 1
        st.integers(0, 150),  # minute
        st.integers(0, 1),  # product
        st.sampled_from(["COMPLETED", "COMPLETED", "COMPLETED", "COMPLETED", "FAILED", "invalid", MARK]),
    ),
    max_size=40,
)
Coordinates = tuple[int, int]


@dataclass
class Play:
    """Consumes the log, and asks meanwhile for records that the table left out or refused.

    asked: those for which it was done, refused ones with what they are replaced by.
    """

    bench: Bench
    rng: random.Random
    rebuilds: list[str]
    declared: str = "strict"
    asks: int = 12
    asked: dict[Coordinates, Any] = field(default_factory=dict)

    def run(self) -> None:
        while self._behind() or self.rebuilds:
            turn = self.rng.random()
            if self._behind() and turn < 0.5:
                self._consume()
            elif turn < 0.75:
                self._ask()
            elif turn < 0.95:
                crash = self.rng.choice([None, *CORRECTION_STEPS])
                self.bench.decide(self.rng.choice(list(self.bench.logs)), crash)
            elif self.rebuilds:
                self.declared = self.rebuilds.pop()
                self.bench.rebuild([DECLARED[self.declared]])
        for _ in range(3):
            self._ask()
        for partition in [*self.bench.logs, *self.bench.logs]:
            self.bench.decide(partition)

    def _behind(self) -> list[int]:
        return [p for p in self.bench.logs if self.bench.position(p) < self.bench.end(p)]

    def _consume(self) -> None:
        partition = self.rng.choice(self._behind())
        at = self.bench.position(partition)
        to = self.rng.randint(at + 1, self.bench.end(partition))
        self.bench.advance(partition, to, self.rng.choice(STEPS) if self.rng.random() < 0.2 else None)

    def _ask(self) -> None:
        partition = self.rng.choice(list(self.bench.logs))
        if self.asks and (free := self.bench.left_out("closed", partition)):
            offset = self.rng.choice(list(free))
            assert self.bench.take_back("closed", partition, offset)
            assert not self.bench.take_back("closed", partition, offset), "asked for twice"
            self.asked[partition, offset] = None
            self.asks -= 1
            return
        bad = [e for e in self.bench.logs[partition] if e.value and e.value["orderAmount"] < 0]
        if bad and self.rng.random() < 0.3:
            one = self.rng.choice(bad)
            edited = {**(one.value or {}), "orderAmount": 1.0, "status": "COMPLETED"}
            if self.bench.correct(partition, one.offset, edited):
                self.asked[partition, one.offset] = edited


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)
@given(
    records=RECORDS,
    rebuilds=st.lists(st.sampled_from(list(DECLARED)), max_size=2),
    seed=st.integers(0, 2**32),
)
def test_each_is_applied_once_whatever_is_built_anew(
    db: Connection, records: list[tuple[int, int, int, str]], rebuilds: list[str], seed: int
) -> None:
    db.execute("delete from ledger.corrections")  # of an earlier example: the topic is not the same
    bench = Bench(db, TOPIC, [STRICT])
    for order, minute, product, kind in records:
        if kind == MARK:
            bench.mark(order % 2, NOON_MICROS + minute * 60_000_000)
        else:
            bench.send(order % 2, value(order, minute, product, kind))
    play = Play(bench, random.Random(seed), list(rebuilds))
    play.run()

    fates = _fates(bench, play.declared)
    assert play.asked.keys() <= fates.keys(), "only what was in the log can be asked for"
    applied = [at for at, fate in fates.items() if fate == "applied"]
    taken = [at for at in play.asked if fates[at] != "applied"]
    entries = {(p, e.offset): e.value or {} for p, log in bench.logs.items() for e in log}
    expected = Counter(_window(play.asked.get(at) or entries[at]) for at in (*applied, *taken))
    found = Counter[tuple[str, int]]()
    for row in bench.rows("closed"):
        found[row["productId"], int(row["windowStart"].timestamp()) // 900] += row["orders"]
    assert found == expected

    for row in bench.accounting():
        p = row["partition"]
        for fate in ("applied", "late", "duplicate"):
            assert row[fate] == len([at for at, one in fates.items() if at[0] == p and one == fate]), fate
        assert row["replayed"] == len([at for at in taken if at[0] == p])
    states = db.execute(
        'select r.partition, r."offset", d.reason, d.state from ledger.dead_letters d'
        " join ledger.dead_letter_records r using (record_id)"
    ).fetchall()
    assert {(p, o) for p, o, _, state in states if state == "replayed"} == set(taken)
    assert all(fates[p, o] == reason for p, o, reason, _ in states if reason in left_out.FATES)
    for count in left_out.counted(db):
        assert count.records == len([1 for fate in fates.values() if fate == count.reason])
        assert count.replayed == len([1 for at in taken if fates[at] == count.reason])


def _fates(bench: Bench, declared: str) -> dict[Coordinates, str]:
    """What becomes of each record that the table asks for, by a query over the whole log."""
    table = DECLARED[declared]
    wait = 2_400_000_000 if declared == "patient" else 300_000_000
    late = f"coalesce((micros // 900000000 + 1) * 900000000 + {wait} <= watermark, false)"
    passes = "status = 'COMPLETED'" + (f" and not {late}" if table.late == "drop" else "")
    duck = bench.duck()
    same = "p.orderId = d.orderId"
    text = FATES.format(passes=passes, horizon=1_800_000_000, id="orderId", same=same)
    duck.execute(f"create table decided as {text}")
    found = {
        (p, o): "duplicate" if again and table.dedup else "applied"
        for p, o, again in duck.sql('select partition, "offset", duplicate from decided').fetchall()
    }
    bad = duck.sql('select partition, "offset", orderAmount < 0, status from log').fetchall()
    found |= {(p, o): "refused" for p, o, negative, _ in bad if negative}
    completed = [(p, o) for p, o, negative, status in bad if not negative and status == "COMPLETED"]
    return {**dict.fromkeys(completed, "late"), **found}


def _window(order: Any) -> tuple[str, int]:
    hour, minute = order["orderTimestamp"][11:16].split(":")
    return order["productId"], (NOON_MICROS // 1_000_000 + (int(hour) - 12) * 3600 + int(minute) * 60) // 900


def test_what_is_late_no_more_is_not_asked_for(db: Connection) -> None:
    db.execute("delete from ledger.corrections")
    bench = Bench(db, TOPIC, [STRICT])
    for minute in (100, 0):
        bench.send(0, value(0, minute, 0, "COMPLETED"))
    bench.advance(0, 2)
    at = left_out.place(db, "closed")
    assert at is not None and left_out.find(db, at, "late", at.partitions).offsets == {0: [1]}
    bench.rebuild()
    record = left_out.Record(1, b"{}", None, {}, None)
    with pytest.raises(UsageError, match="built anew meanwhile"):
        left_out.ask(db, at, "late", 0, [record], "bench")
    assert db.execute("select count(*) from ledger.corrections").fetchall() == [(0,)]
