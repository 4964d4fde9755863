"""Windows that overlap, and windows by the clocks of a zone: what one query over the log gives, whatever happens."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ledger import Connection
from tests.operators.bench import Bench
from tests.operators.conftest import EXAMPLES
from tests.topology.declare import MONEY, ORDER, PER_PRODUCT, topic
from topology import Hopping, Tumbling
from topology.duration import micros

TOPIC = topic(partitions=3)
HOPS = {"per_minute": ("5 minutes", "1 minute"), "uneven": ("10 minutes", "4 minutes"), "odd": ("90s", "60s")}
MEASURES = {**PER_PRODUCT.measures, "newest": f"last({MONEY})", "mean": f"avg({MONEY})"}
HOPPING = [
    replace(PER_PRODUCT, name=name, source=TOPIC, window=Hopping(*hop), measures=MEASURES) for name, hop in HOPS.items()
]
# A shop open where the clocks go forward at midnight, back at midnight, and back at three.
ZONES = {
    "beirut": ("Asia/Beirut", "1 day"),
    "havana": ("America/Havana", "1 day"),
    "berlin": ("Europe/Berlin", "1 hour"),
}
CHANGES = [datetime(2026, 3, 28, 22), datetime(2026, 11, 1, 5), datetime(2026, 10, 25, 1), datetime(2026, 3, 29, 1)]
ZONED = [
    replace(PER_PRODUCT, name=name, source=TOPIC, window=Tumbling(size, zone)) for name, (zone, size) in ZONES.items()
]

PLAYED = settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)


def order(at: datetime, product: int, cents: int, status: str) -> dict[str, Any]:
    return {
        **ORDER,
        "customerId": f"c{product}",
        "productId": f"p{product}",
        "orderAmount": cents / 100,
        "orderTimestamp": at.isoformat() + "Z",
        "status": status,
    }


ORDERS = st.lists(
    st.tuples(
        st.integers(0, 2),  # partition
        st.integers(-3_600, 3_600),  # seconds
        st.integers(0, 2),  # product
        st.integers(1, 9_999),  # cents
        st.sampled_from(["COMPLETED", "COMPLETED", "FAILED"]),
    ),
    max_size=40,
)


@PLAYED
@given(orders=ORDERS, seed=st.integers(0, 2**32))
def test_overlapping_windows_equal_the_query(
    db: Connection, orders: list[tuple[int, int, int, int, str]], seed: int
) -> None:
    bench = Bench(db, TOPIC, HOPPING)
    for partition, second, product, cents, status in orders:
        bench.send(partition, order(datetime(2026, 1, 11) + timedelta(seconds=second), product, cents, status))
    bench.play(random.Random(seed))
    bench.accounting()
    duck = bench.duck()
    for name, hop in HOPS.items():
        size, every = map(micros, hop)
        expected = duck.sql(
            "with done as (select *, epoch_us(orderTimestamp::timestamptz) as moment from log"
            " where status = 'COMPLETED'),"
            f" starts as (select unnest(range(1767225600000000, 1769904000000000, {every})) as start)"
            f" select productId, start, start + {size}, count(*), sum(orderAmount::decimal(18,2)),"
            ' (list(orderAmount::decimal(18,2) order by moment, partition, "offset"))[-1],'
            " avg(orderAmount::decimal(18,2))::decimal(18,6)"
            f" from done join starts on moment >= start and moment < start + {size} group by all"
        ).fetchall()
        rows = bench.rows(name)
        found = [
            (
                row["productId"],
                _micros(row["windowStart"]),
                _micros(row["windowEnd"]),
                *(row[name] for name in ("orders", "total", "newest")),
                round(row["mean"], 6),
            )
            for row in rows
        ]
        assert sorted(found) == sorted(expected), name
        touched = {day for (days,) in db.execute(_TOUCHED, (bench.program.name, name)) for day in days}
        assert touched == {start // 86_400_000_000 for _, start, *_ in expected}, name


_TOUCHED = (
    "select days from ledger.batch_index join ledger.table_versions using (table_version)"
    " where pipeline = %s and table_name = %s"
)


def _micros(at: datetime) -> int:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@PLAYED
@given(
    sent=st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(CHANGES), st.integers(-200_000, 200_000), st.integers(0, 1)),
        max_size=40,
    ),
    seed=st.integers(0, 2**32),
)
def test_windows_of_a_zone_follow_its_clocks(
    db: Connection, sent: list[tuple[int, datetime, int, int]], seed: int
) -> None:
    bench = Bench(db, TOPIC, ZONED)
    moments = []
    for partition, change, second, product in sent:
        at = change + timedelta(seconds=second)
        bench.send(partition, order(at, product, 100, "COMPLETED"))
        moments.append((at.replace(tzinfo=UTC), f"p{product}"))
    bench.play(random.Random(seed))
    for name, (zone, size) in ZONES.items():
        expected: dict[tuple[str, datetime, datetime], int] = {}
        for at, product_id in moments:
            start, end = _shown(at, ZoneInfo(zone), size)
            expected[product_id, start, end] = expected.get((product_id, start, end), 0) + 1
        found = {(row["productId"], row["windowStart"], row["windowEnd"]): row["orders"] for row in bench.rows(name)}
        assert found == expected, name


def _shown(at: datetime, zone: ZoneInfo, size: str) -> tuple[datetime, datetime]:
    """First moment at which a zone's clocks show the day or hour of `at`, and the first at which they show the next."""
    local = at.astimezone(zone).replace(minute=0, second=0, microsecond=0, tzinfo=None)
    if size == "1 day":
        local = local.replace(hour=0)
    step = timedelta(days=1) if size == "1 day" else timedelta(hours=1)
    start, end = (moment.replace(tzinfo=zone, fold=0).astimezone(UTC) for moment in (local, local + step))
    return start, end


@pytest.mark.parametrize(
    ("zone", "day", "hours"), [("Europe/Berlin", 25, 25), ("America/Havana", 25, 24), ("Asia/Kolkata", 25, 24)]
)
def test_a_day_has_as_many_hours_as_the_clocks_go_through(db: Connection, zone: str, day: int, hours: int) -> None:
    table = replace(PER_PRODUCT, source=TOPIC, window=Tumbling("1 day", zone))
    bench = Bench(db, TOPIC, [table])
    bench.send(0, order(datetime(2026, 10, day, 12), 1, 100, "COMPLETED"))
    bench.play(random.Random(1))
    (row,) = bench.rows("per_product")
    assert row["windowEnd"] - row["windowStart"] == timedelta(hours=hours)
    assert row["windowStart"].astimezone(ZoneInfo(zone)).isoformat().startswith(f"2026-10-{day}T00:00:00")
