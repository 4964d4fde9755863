"""Tables that drop late records: which are dropped is a function of each partition's log, and the ledger names them."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ledger import Connection, skipped
from tests.operators.bench import Bench
from tests.operators.conftest import EXAMPLES
from tests.topology.declare import NOON_MICROS, ORDER, PER_PRODUCT, topic
from topology import Hopping, Tumbling

TOPIC = topic(partitions=2)
CLOSED = replace(PER_PRODUCT, name="closed", source=TOPIC, late="drop", allowed_lateness="5 minutes")
OPEN = replace(PER_PRODUCT, name="open", source=TOPIC, window=Tumbling("1 hour"), where=None)
HOPPED = replace(
    CLOSED, name="hopped", window=Hopping("30 minutes", every="15 minutes")
)  # late by panes of a quarter, as CLOSED
MARK = "end of input"
RECORDS = st.lists(
    st.tuples(
        st.integers(0, 1),  # partition
        st.integers(0, 180),  # minute
        st.integers(0, 2),  # product
        st.sampled_from(["COMPLETED", "COMPLETED", "COMPLETED", "FAILED", "invalid", "in 2099", MARK]),
    ),
    max_size=40,
)

# Only what is valid moves the watermark, and only for later offsets; what the table filters does move it.
FATES = """
with entries as (
    select partition, "offset", epoch_us(orderTimestamp::timestamptz) as micros, productId, status,
        orderAmount > 0 and epoch_us(orderTimestamp::timestamptz) <= kafka_millis * 1000 + 3600000000 as valid
    from log
    union all select partition, "offset", micros, null, 'mark', true from marks
), ordered as (
    select *, max(case when valid then micros end) over (
        partition by partition order by "offset" rows between unbounded preceding and 1 preceding) as watermark
    from entries
)
select *, micros // 900000000 as quarter,
    coalesce((micros // 900000000 + 1) * 900000000 + 300000000 <= watermark, false) as late,
    coalesce((micros // 3600000000 + 1) * 3600000000 <= watermark, false) as late_hour
from ordered where valid and status <> 'mark'
"""


def value(minute: int, who: int, kind: str) -> dict[str, Any]:
    year = "2099" if kind == "in 2099" else "2026"
    return {
        **ORDER,
        "productId": f"p{who}",
        "orderAmount": -1.0 if kind == "invalid" else 1.0,
        "orderTimestamp": f"{year}-01-10T{12 + minute // 60:02d}:{minute % 60:02d}:30Z",
        "status": "FAILED" if kind == "FAILED" else "COMPLETED",
    }


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)
@given(records=RECORDS, seed=st.integers(0, 2**32))
def test_equals_the_batch_query(db: Connection, records: list[tuple[int, int, int, str]], seed: int) -> None:
    bench = Bench(db, TOPIC, [CLOSED, OPEN, HOPPED])
    marks: list[tuple[int, int, int]] = []
    for partition, minute, who, kind in records:
        if kind == MARK:
            at = NOON_MICROS + minute * 60_000_000
            marks.append((partition, bench.mark(partition, at), at))
        else:
            bench.send(partition, value(minute, who, kind))
    bench.play(random.Random(seed))
    duck = bench.duck()
    duck.execute('create table marks (partition bigint, "offset" bigint, micros bigint)')
    if marks:
        duck.executemany("insert into marks values (?, ?, ?)", marks)
    duck.execute(f"create view fates as {FATES}")
    closed, opened, hopped = (table.version_id for table in bench.program.tables)

    sums = "select productId, quarter, count(*) from fates where status = 'COMPLETED' and not late group by all"
    found = {(r["productId"], int(r["windowStart"].timestamp()) // 900, r["orders"]) for r in bench.rows("closed")}
    assert found == set(duck.sql(sums).fetchall())
    halves = (
        "select productId, quarter - back, count(*) from fates, (select unnest([0, 1]) as back)"
        " where status = 'COMPLETED' and not late group by all"
    )
    found = {(r["productId"], int(r["windowStart"].timestamp()) // 900, r["orders"]) for r in bench.rows("hopped")}
    assert found == set(duck.sql(halves).fetchall())
    late = duck.sql("select partition, \"offset\" from fates where late and status = 'COMPLETED'").fetchall()
    named = {p: skipped.read(db, closed, TOPIC.name, p) for p in range(TOPIC.partitions)}
    assert named == {p: {skipped.LATE: sorted(o for q, o in late if p == q), skipped.DUPLICATE: []} for p in named}
    for row in bench.accounting():
        p = row["partition"]
        if row["table_version"] in {closed, hopped}:
            assert row["late"] == len([one for one in late if one[0] == p])
            filtered = duck.sql(f"select count(*) from fates where partition = {p} and status <> 'COMPLETED'")
            assert filtered.fetchall() == [(row["filtered"],)]
        if row["table_version"] == opened:
            assert row["late"] == 0
            hours = duck.sql(f"select count(*) from fates where partition = {p} and late_hour")
            assert hours.fetchall() == [(row["late_applied"],)]
