"""Dead letters replayed as they are, edited, dropped, refused again; between random cuts, with crashes, restarts and
rebuilds: each table is what one query over the log and the last word on each of its dead letters gives."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ledger import Connection
from tests.operators.bench import CORRECTION_STEPS, STEPS, Bench
from tests.operators.conftest import EXAMPLES
from tests.topology.declare import ORDER, PER_CUSTOMER, PER_PRODUCT, topic

TOPIC = topic(partitions=2)
TABLES = [replace(PER_CUSTOMER, source=TOPIC), replace(PER_PRODUCT, source=TOPIC)]
NAMES = [table.name for table in TABLES]

_ORDER = st.tuples(
    st.integers(0, 180),  # minute
    st.integers(0, 3),  # customer and product
    st.sampled_from([-500, 0, 1, 250, 9_999]),  # cents: one in three or so is refused
    st.sampled_from(["COMPLETED", "FAILED"]),
)
_ACTION = st.tuples(
    st.integers(0, 30),  # which dead letter, of those there are
    st.sampled_from(["", "", *NAMES]),  # of which table, "": of all
    st.one_of(st.just("as it is"), st.just("drop"), _ORDER),
)
Coordinates = tuple[str, int, int]  # table, partition, offset


def order(minute: int, who: int, cents: int, status: str) -> dict[str, Any]:
    at = f"2026-01-10T{12 + minute // 60:02d}:{minute % 60:02d}:30Z"
    changes = {"customerId": f"c{who}", "productId": f"p{who}", "orderAmount": cents / 100, "orderTimestamp": at}
    return {**ORDER, **changes, "status": status}


@dataclass
class Play:
    """Consumes the log, and does what people do meanwhile. said: the last word on each dead letter."""

    bench: Bench
    rng: random.Random
    actions: list[Any]
    rebuilds: int = 1
    said: dict[Coordinates, Any] = field(default_factory=dict)

    def run(self) -> None:
        while self._behind() or self.actions:
            turn = self.rng.random()
            if self._behind() and turn < 0.5:
                self._consume()
            elif self.actions and turn < 0.75:
                self._act()
            elif turn < 0.98:
                self._decide(self.rng.choice([None, *CORRECTION_STEPS]))
            elif self.rebuilds:
                self.rebuilds -= 1
                self.bench.rebuild()
        for _ in range(2):
            for partition in self.bench.logs:
                self.bench.decide(partition)

    def _behind(self) -> list[int]:
        return [p for p in self.bench.logs if self.bench.position(p) < self.bench.end(p)]

    def _consume(self) -> None:
        partition = self.rng.choice(self._behind())
        at = self.bench.position(partition)
        to = self.rng.randint(at + 1, self.bench.end(partition))
        self.bench.advance(partition, to, self.rng.choice(STEPS) if self.rng.random() < 0.2 else None)

    def _decide(self, crash: Any) -> None:
        self.bench.decide(self.rng.choice(list(self.bench.logs)), crash)

    def _act(self) -> None:
        which, table, what = self.actions.pop()
        dead = [(p, e.offset) for p, log in self.bench.logs.items() for e in log if e.value and bad(e.value)]
        if not dead:
            return
        partition, offset = dead[which % len(dead)]
        if what == "drop":
            made = self.bench.discard(partition, offset, table)
        else:
            made = self.bench.correct(partition, offset, None if what == "as it is" else order(*what), table)
        self.said |= {(name, partition, offset): what for name in made}


def bad(value: Any) -> bool:
    return bool(value["orderAmount"] <= 0)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)
@given(
    orders=st.lists(st.tuples(st.integers(0, 1), _ORDER), min_size=1, max_size=20),
    actions=st.lists(_ACTION, max_size=10),
    seed=st.integers(0, 2**32),
)
def test_equals_the_query_over_log_and_corrections(db: Connection, orders: Any, actions: Any, seed: int) -> None:
    bench = Bench(db, TOPIC, TABLES)
    db.execute("delete from ledger.corrections")  # of an earlier example: the topic is not the same
    for partition, one in orders:
        bench.send(partition, order(*one))
    play = Play(bench, random.Random(seed), actions)
    play.run()

    taken = {at: order(*what) for at, what in play.said.items() if isinstance(what, tuple) and what[2] > 0}
    duck = bench.duck()
    columns = ["customerId", "productId", "orderAmount", "orderTimestamp", "status"]
    rows = [{"name": at[0], **{c: value[c] for c in columns}} for at, value in taken.items()]
    kinds = pa.schema([(c, pa.float64() if c == "orderAmount" else pa.string()) for c in ("name", *columns)])
    duck.register("corrected", pa.Table.from_pylist(rows, kinds))
    for name, query in {
        "per_customer": "select customerId, count(*), sum(orderAmount::decimal(18,2)) from taken group by all",
        "per_product": "select productId, epoch_us(orderTimestamp::timestamptz) // 900000000, count(*),"
        " sum(orderAmount::decimal(18,2)) from taken where status = 'COMPLETED' group by all",
    }.items():
        names = ", ".join(columns)
        duck.execute(
            f"create or replace view taken as select {names} from log where orderAmount > 0"
            f" union all select {names} from corrected where name = '{name}'"
        )
        found = {
            (row["customerId"], row["orders"], row["total"])
            if name == "per_customer"
            else (row["productId"], int(row["windowStart"].timestamp()) // 900, row["orders"], row["total"])
            for row in bench.rows(name)
        }
        assert found == set(duck.sql(query).fetchall()), name

    for row in bench.accounting():
        name, partition = row["table_version"].partition("@")[0], row["partition"]
        letters = [(name, partition, e.offset) for e in bench.logs[partition] if e.value and bad(e.value)]
        assert row["dead_lettered"] == len(letters)
        assert row["replayed"] == len([at for at in letters if at in taken])
        states = Counter("replayed" if at in taken else play.said.get(at) == "drop" for at in letters)
        assert _states(db, row["table_version"], partition) == Counter(
            {"replayed" if s == "replayed" else "dropped" if s else "open": n for s, n in states.items()}
        )


def _states(db: Connection, version: str, partition: int) -> Counter[str]:
    return Counter(
        state
        for (state,) in db.execute(
            "select d.state from ledger.dead_letters d join ledger.dead_letter_records r using (record_id)"
            " where d.table_version = %s and r.partition = %s",
            (version, partition),
        )
    )
