"""A table added to a running pipeline catches up alone, the others go on, and then it joins them (engine rule B11)."""

from __future__ import annotations

import signal

import psutil
import pytest

from tests.stream_workers.harness import Rig

_ADDED = {"TEST_TABLE_ADDED": "1"}
_SMALL = {**_ADDED, "HEADRACE_BATCH_RECORDS": "50"}


@pytest.fixture
def before(rig: Rig, seed: int) -> dict[int, int]:
    """The other tables are level, and by now there is more: where they stand, by partition."""
    rig.produce(seed, 4000, ["negative", "truncated"])
    worker = rig.start()
    rig.wait(rig.level)
    rig.stop(worker)
    at = dict(rig.query("select partition, max(next_offset)::int from ledger.positions group by partition"))
    rig.produce(seed + 1, 400)
    return {int(partition): int(offset) for partition, offset in at.items()}


def test_the_others_go_on_while_it_catches_up(rig: Rig, before: dict[int, int]) -> None:
    worker = rig.start(HEADRACE_FAILPOINTS="catch_up_joined:stop:1", **_SMALL)
    rig.wait(lambda: psutil.Process(worker.pid).status() == psutil.STATUS_STOPPED)
    added = dict(
        rig.query("select partition, next_offset from ledger.positions where table_version like 'orders_per_status@%%'")
    )
    others = rig.query(
        "select partition, next_offset from ledger.positions where table_version like 'product_sales@%%'"
    )
    joined = [p for p, offset in others if added[p] == offset]
    assert joined and all(added[p] > before[p] for p in joined), "where they join, the others had gone on"
    worker.send_signal(signal.SIGCONT)
    rig.wait(lambda: _all_level(rig))
    _verify(rig)


@pytest.mark.parametrize("death", ["catch_up_joined:kill:2", "advanced:kill:12", "committed:kill:30"])
def test_killed_while_it_catches_up(rig: Rig, before: dict[int, int], death: str) -> None:
    doomed = rig.start(HEADRACE_FAILPOINTS=death, **_SMALL)
    rig.wait(lambda: doomed.poll() is not None, alive=False)
    assert doomed.returncode == -signal.SIGKILL, rig.logs()
    rig.start(**_ADDED, HEADRACE_BATCH_RECORDS="250")
    rig.wait(lambda: _all_level(rig))
    _verify(rig)


def _all_level(rig: Rig) -> bool:
    ends, found = rig.ends(), rig.query("select partition, next_offset from ledger.positions")
    return len(found) == 3 * rig.partitions and all(offset == ends[p] for p, offset in found)


def _verify(rig: Rig) -> None:
    rows = rig.query('select status, sum("orders")::int, sum("quantity")::int from orders_per_status group by 1')
    expected: dict[str, tuple[int, int]] = {}
    for order in rig.sent.good:
        count, quantity = expected.get(order["status"], (0, 0))
        expected[order["status"]] = (count + 1, quantity + order["quantity"])
    assert {status: (count, quantity) for status, count, quantity in rows} == expected
    rig.query("delete from ledger.shards where table_version like 'orders_per_status@%%' returning 1")
    rig.verify_tables()
    rig.verify_identities()
