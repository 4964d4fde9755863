"""A topic read from its beginning: its partitions run out of step in event time, and no record may be lost by that."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta

from tests.stream_workers import orders
from tests.stream_workers.harness import Rig
from tests.stream_workers.orders import Message

_DAY = datetime(2026, 3, 1, tzinfo=UTC)
_RECORDS = 1_000_000 if os.environ.get("HEADRACE_SOAK") else 12_000

_Expected = Counter[tuple[str, datetime]]


def _produce(rig: Rig, rng: random.Random) -> _Expected:
    """One day in each of four partitions of one, two, three and four shares of the records, up to five seconds out of
    order. Returns the number of orders by product and minute."""
    expected: _Expected = Counter()
    for partition in range(4):
        count = _RECORDS * (partition + 1) // 10
        messages = []
        for n in range(count):
            at = _DAY + timedelta(days=1) * n / count + timedelta(microseconds=rng.randrange(5_000_000))
            order = orders.order(rng, rig.number) | {
                "productId": f"p{rng.randrange(5)}",
                "orderTimestamp": at.isoformat(),
            }
            rig.number += 1
            expected[(order["productId"], at.replace(second=0, microsecond=0))] += 1
            key = order["customerId"].encode()
            messages.append(Message("good", key, orders.encode(rig.schema_id, order), order))
        rig.send(messages, partition)
    return expected


def test_partitions_out_of_step_lose_nothing(rig: Rig, seed: int, rounds: int) -> None:
    expected = _produce(rig, random.Random(seed))
    catalog = {"HEADRACE_CATALOG": "tests.catalogs_backfill"}
    for n in range(rounds):
        if n:
            subprocess.run(
                [sys.executable, "-m", "cli.main", "pipeline", "rebuild", "orders", "--yes"],
                env=rig.environment(**catalog),
                check=True,
                capture_output=True,
            )
        workers = [rig.start(**catalog), rig.start(**catalog)]
        rig.wait(rig.done, 600)
        assert [rig.stop(worker) for worker in workers] == [0, 0], rig.logs()
        for table in ("sales_corrected", "sales_closed"):
            found = rig.query(f'select "productId", "windowStart", orders from {table}')
            assert len(found) == len(expected)
            assert {(product, start): number for product, start, number in found} == expected
        fates = rig.query(
            "select sum(consumed)::int, sum(applied)::int, sum(late)::int from ledger.positions group by table_version"
        )
        assert fates == [(_RECORDS, _RECORDS, 0)] * 2
