"""Final rows of windows of records: each full window once, with what a query over the log gives, whatever crashes."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ledger import Connection
from tests.operators.bench import STEPS, Bench
from tests.operators.conftest import EXAMPLES
from tests.operators.test_count_windows import EXPECTED, FIVES, MEASURES, THREES, TOPIC, order, same
from tests.operators.test_final import CLOSING_STEPS, Closer
from tests.operators.test_sessions import micros
from tests.topology.declare import NOON_MICROS
from topology import Count, Final, final_compile

EMITTED = {
    "threes": (replace(THREES, emit=Final("threes-final")), "customerId", "true"),
    "fives": (replace(FIVES, emit=Final("fives-final")), "productId || customerId", FIVES.where),
}
MARK = "end of input"
RECORDS = st.lists(
    st.tuples(
        st.integers(0, 2),  # customer, who has one partition
        st.integers(0, 1),  # product
        st.integers(0, 59),  # second
        st.integers(1, 9_999),  # cents
        st.sampled_from(["COMPLETED", "COMPLETED", "COMPLETED", "FAILED", "invalid", "twice", MARK]),
    ),
    max_size=60,
)
ENDS = """
select {by} as k, (row_number() over (partition by {by} order by "offset") - 1) // {size} as number,
    epoch_us(orderTimestamp::timestamptz) as micros
from log where orderAmount > 0 and {where}
"""


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)
@given(records=RECORDS, seed=st.integers(0, 2**32))
def test_each_full_window_is_emitted_once(db: Connection, records: list[tuple[Any, ...]], seed: int) -> None:
    rng = random.Random(seed)
    with patch.object(final_compile, "_AT_ONCE", rng.choice([2, 20_000])):
        bench = Bench(db, TOPIC, [table for table, *_ in EMITTED.values()])
    for number, (who, product, second, cents, kind) in enumerate(records):
        if kind == MARK:
            bench.mark(who % 2, NOON_MICROS)
            continue
        for _ in range(2 if kind == "twice" else 1):
            bench.send(who % 2, order(who, product, second, cents, kind, f"o{number}"))
    closers = [Closer(bench, table) for table in bench.program.tables]
    while behind := [p for p in bench.logs if bench.position(p) < bench.end(p)]:
        if rng.random() < 0.6:
            partition = rng.choice(behind)
            to = min(bench.end(partition), bench.position(partition) + rng.choice([1, 2, 5, 40]))
            bench.advance(partition, to, rng.choice(STEPS) if rng.random() < 0.2 else None)
        else:
            rng.choice(closers).step(rng.choice(CLOSING_STEPS) if rng.random() < 0.3 else None)
    for closer in closers:
        while closer.step(rng.choice(CLOSING_STEPS) if rng.random() < 0.2 else None) or closer.late():
            pass
    bench.accounting()
    duck = bench.duck()
    for closer, (table, by, where) in zip(closers, EMITTED.values(), strict=True):
        assert isinstance(table.window, Count)
        names = {"by": by, "where": where, "size": table.window.records}
        query = EXPECTED.format(**names)
        ends = f"select k, number, max(micros) from ({ENDS.format(**names)}) group by all"
        ended = {row[:2]: row[2] for row in duck.sql(ends).fetchall()}
        full = {
            row[:2]: (row[2], ended[row[:2]], *row[3:])
            for row in duck.sql(query).fetchall()
            if row[2] == table.window.records
        }
        found = [
            (
                ("".join(row[name] for name in table.by), row["windowNumber"]),
                (row["windowRecords"], micros(row["windowEnd"]), *(row[name] for name in MEASURES)),
                row["revision"],
            )
            for row in closer.decoded()
        ]
        assert sorted(key for key, _, _ in found) == sorted(full), table.name
        for key, values, revision in found:
            assert revision == 1
            assert all(same(one, other) for one, other in zip(values, full[key], strict=True)), (key, values, full[key])
        shown = bench.rows(f"{table.name}_final")
        assert {("".join(row[name] for name in table.by), row["windowNumber"]) for row in shown} == set(full)


def test_no_event_time_decides(db: Connection) -> None:
    """One partition is empty, the event times stand still."""
    bench = Bench(db, TOPIC, [EMITTED["threes"][0]])
    closer = Closer(bench, bench.program.tables[0])
    emitted = []
    for number in range(7):
        bench.send(0, order(0, 0, 0, 100, "", f"o{number}"))
        bench.advance(0, bench.end(0))
        closer.step()
        emitted.append(len(closer.records))
    assert emitted == [0, 0, 1, 1, 1, 2, 2]
    bench.rebuild()
    bench.play(random.Random(1), crash=0)
    again = Closer(bench, bench.program.tables[0])
    while again.step():
        pass
    assert again.decoded() == closer.decoded()
