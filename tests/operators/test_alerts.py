"""Alerts on final rows: any cuts and crashes give each revision that meets the condition once, with its values.

The rows are made up: sums that are null, windows that end after the record's Kafka timestamp, as one that a marker
closed.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ledger import Connection
from tests.operators.conftest import EXAMPLES
from tests.operators.test_derived import STEPS, DerivedBench
from tests.topology.declare import NOON_MICROS, PER_CUSTOMER, PER_PRODUCT, topic
from topology import Alert, Derived, Final, Session

SALES = replace(
    PER_PRODUCT,
    source=topic(partitions=2),
    derived={"mean": "total / orders"},
    emit=Final("sales", dead_letters="failed"),
)
BIG = Alert(
    "big",
    source=SALES,
    when="total > 50 and mean < 40",
    columns={"productId": "productId", "windowEnd": "windowEnd", "total": "total", "revision": "revision"},
)
FIRST = Alert(
    "first",
    source=SALES,
    when="revision = 1",
    columns={
        "productId": "productId",
        "windowEnd": "windowEnd",
        "minutes": "date_diff('minute', windowStart, windowEnd)",
    },
)
COPIES = Derived(
    "copies",
    source=SALES,
    key="productId",
    columns={"productId": "productId", "windowEnd": "windowEnd", "mean": "cast(mean as decimal(18,2))"},
    require={"small": "mean < 80"},
)
NOON = datetime(2026, 1, 10, 12, tzinfo=UTC)
QUARTER = timedelta(minutes=15)

ROWS = st.lists(
    st.tuples(
        st.integers(0, 1),  # partition
        st.integers(0, 100),  # window: up to a day ahead
        st.integers(1, 3),  # revision
        st.one_of(st.none(), st.integers(0, 10_000)),  # cents
        st.integers(1, 4),  # orders
        st.booleans(),  # an offset that Kafka never delivers before it
    ),
    max_size=40,
)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)
@given(rows=ROWS, seed=st.integers(0, 2**32))
def test_equals_the_query_over_the_final_rows(
    db: Connection, rows: list[tuple[int, int, int, int | None, int, bool]], seed: int
) -> None:
    bench = DerivedBench(db, SALES.final, [BIG, FIRST, COPIES])
    for number, (partition, window, revision, cents, orders, gap) in enumerate(rows):
        if gap:
            bench.skip(partition)
        total = None if cents is None else Decimal(cents) / 100
        row = {
            "productId": f"p{number % 3}",
            "windowStart": NOON + window * QUARTER,
            "windowEnd": NOON + (window + 1) * QUARTER,
            "total": total,
            "orders": orders,
            "mean": None if total is None else (total / orders).quantize(Decimal("1e-18")),
            "revision": revision,
        }
        bench.send(partition, row, kafka_millis=NOON_MICROS // 1000 + number)
    rng = random.Random(seed)
    while behind := [p for p in bench.logs if bench.position(p) < bench.end(p)]:
        partition = rng.choice(behind)
        at, end = bench.position(partition), bench.end(partition)
        to = rng.randint(at + 1, min(end, at + rng.choice([1, 3, 10, 1_000])))
        bench.advance(partition, to, rng.choice(STEPS) if rng.random() < 0.4 else None)
    duck = bench.duck()
    duck.execute("alter table log rename kafka_millis to ts")
    made = "select productId, concat_ws(':', '{}', 'sales', partition, log.offset), productId, windowEnd, {}, ts"
    assert bench.made(BIG) == Counter(
        duck.sql(
            made.format("big", "total, revision") + " from log where total > 50 and total / orders < 40"
        ).fetchall()
    )
    assert bench.made(FIRST) == Counter(
        duck.sql(made.format("first", "15") + " from log where revision = 1").fetchall()
    )
    assert bench.made(COPIES) == Counter(
        duck.sql(
            "select productId, productId, windowEnd, round(mean, 2), ts from log where round(mean, 2) < 80"
        ).fetchall()
    )
    letters = [letter["headrace-reason"] for memory in bench.kafka.values() for letter in memory.letters]
    refused = duck.sql("select count(*) from log where mean is null or round(mean, 2) >= 80").fetchall()
    assert letters == [b"require:small"] * refused[0][0]
    bench.accounting()


VISITS = replace(
    PER_CUSTOMER,
    source=topic(partitions=2),
    window=Session("15 minutes"),
    emit=Final("visits", dead_letters="failed"),
)
OF_VISITS = {"customerId": "customerId", "windowEnd": "windowEnd", "revision": "revision"}
OFTEN = Alert(
    "often",
    source=VISITS,
    when="total is null or revision > 1 or orders > 2",
    columns={**OF_VISITS, "orders": "orders"},
    require={"some": "orders > 0"},
)
KEPT = Derived(
    "kept", source=VISITS, key="customerId", columns=OF_VISITS, where="not withdrawn", require={"small": "revision < 3"}
)
TOLD = Derived("told", source=VISITS, key="customerId", columns={**OF_VISITS, "withdrawn": "withdrawn"})


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)
@given(rows=ROWS, seed=st.integers(0, 2**32))
def test_a_withdrawn_session_is_no_alert(
    db: Connection, rows: list[tuple[int, int, int, int | None, int, bool]], seed: int
) -> None:
    bench = DerivedBench(db, VISITS.final, [OFTEN, KEPT, TOLD])
    for number, (partition, window, revision, cents, orders, withdrawn) in enumerate(rows):
        row = {
            "customerId": f"c{number % 3}",
            "windowStart": NOON + window * QUARTER,
            "windowEnd": NOON + (window + 1) * QUARTER,
            "orders": None if withdrawn else orders,
            "total": None if withdrawn or cents is None else Decimal(cents) / 100,
            "withdrawn": withdrawn,
            "revision": revision,
        }
        bench.send(partition, row, kafka_millis=NOON_MICROS // 1000 + number)
    bench.play(random.Random(seed), crash=0)
    duck = bench.duck()
    duck.execute("alter table log rename kafka_millis to ts")
    ids = "concat_ws(':', 'often', 'visits', partition, log.offset)"
    raised = f"select customerId, {ids}, customerId, windowEnd, revision, orders, ts from log"
    condition = "(total is null or revision > 1 or orders > 2)"
    assert bench.made(OFTEN) == Counter(duck.sql(f"{raised} where not withdrawn and {condition}").fetchall())
    copied = "select customerId, customerId, windowEnd, revision{}, ts from log"
    kept = f"{copied.format('')} where not withdrawn and revision < 3"
    assert bench.made(KEPT) == Counter(duck.sql(kept).fetchall())
    assert bench.made(TOLD) == Counter(duck.sql(copied.format(", withdrawn")).fetchall())
    letters = [letter["headrace-reason"] for memory in bench.kafka.values() for letter in memory.letters]
    refused = duck.sql("select count(*) from log where not withdrawn and revision > 2").fetchall()
    assert letters == [b"require:small"] * refused[0][0]
    bench.accounting()
