"""A producer that sends its records again and again: each counts once, whatever becomes of the workers."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

from tests.stream_workers import orders
from tests.stream_workers.harness import Rig
from tests.stream_workers.orders import Message

_DAY = datetime(2026, 3, 1, tzinfo=UTC)
_ORDERS = 4_000


def test_each_order_counts_once_through_kills(rig: Rig, seed: int) -> None:
    rng = random.Random(seed)
    made, pieces, sales = [], Counter[str](), Counter[tuple[str, datetime]]()
    for number in range(_ORDERS):
        at = _DAY + timedelta(minutes=rng.randrange(600), seconds=rng.randrange(60))
        order = orders.order(rng, number) | {"productId": f"p{rng.randrange(5)}", "orderTimestamp": at.isoformat()}
        made.append(Message("good", order["customerId"].encode(), orders.encode(rig.schema_id, order), order))
        pieces[order["customerId"]] += order["quantity"]
        sales[(order["productId"], at.replace(second=0))] += 1
    counts = Counter(message.key for message in made)
    again = [replace(message) for message in made for _ in range(rng.randrange(3))]
    sent = [*made, *again]
    rng.shuffle(sent)
    workers = [rig.start(HEADRACE_CATALOG="tests.catalogs_dedup") for _ in range(2)]
    for start in range(0, len(sent), 500):
        rig.send(sent[start : start + 500])
        if start // 500 % 5 == 3:
            rig.wait(partial(_consumed, rig, start), 300)
            workers[start % 2].kill()
            workers[start % 2].wait()
            workers[start % 2] = rig.start(HEADRACE_CATALOG="tests.catalogs_dedup")
    rig.wait(rig.done, 300)
    found = rig.query('select "customerId", orders, pieces::int from orders_once')
    assert sorted(found) == sorted((key, counts[key.encode()], total) for key, total in pieces.items())
    found = rig.query('select "productId", "windowStart", orders from sales_once')
    assert {(product, start): number for product, start, number in found} == sales
    fates = rig.query(
        "select sum(consumed)::int, sum(applied)::int, sum(duplicate)::int from ledger.positions group by table_version"
    )
    assert fates == [(len(sent), len(made), len(again))] * 2


def _consumed(rig: Rig, records: int) -> bool:
    found = rig.query("select sum(consumed)::int from ledger.positions group by table_version")
    return len(found) == 2 and all(consumed >= records for (consumed,) in found)
