from __future__ import annotations

import random

from tests.stream_workers import orders
from tests.stream_workers.harness import Rig
from tests.stream_workers.orders import BAD, Message

_MARCH = 1_772_582_400_000_000  # 2026-03-04T00:00:00Z in microseconds


def test_every_record_has_one_fate_and_the_tables_are_exact(rig: Rig, seed: int) -> None:
    rig.produce(seed, 8000, [kind for kind in BAD for _ in range(3)])
    rig.mark_end(_MARCH)
    worker = rig.start()
    rig.wait(rig.level)
    rig.verify()
    assert rig.stop(worker) == 0
    assert rig.query("select distinct watermark, ended from ledger.positions") == [(_MARCH, _MARCH)]


def test_records_of_an_older_schema_between_new_ones(rig: Rig, seed: int) -> None:
    rig.produce(seed, 1000, ["truncated"])
    rig.produce_older(seed + 1, 500)
    rig.produce(seed + 2, 1000)
    rig.start()
    rig.wait(rig.level)
    rig.verify()


def test_workers_share_the_shards(rig: Rig, seed: int) -> None:
    rig.produce(seed, 3000)
    rig.start()
    rig.start()

    def shared() -> bool:
        held = rig.query("select cardinality(shards) from ledger.workers where state = 'running'")
        return sorted(n for (n,) in held) == [2, 2]

    rig.wait(shared)
    rig.produce(seed + 1, 3000)
    rig.wait(rig.level)
    rig.verify()


def test_a_drained_worker_leaves_its_shards_and_the_group_offsets(rig: Rig, seed: int) -> None:
    rig.produce(seed, 2000)
    worker = rig.start()
    rig.wait(rig.level)
    assert rig.stop(worker) == 0
    assert rig.query("select * from ledger.leases") == []
    assert rig.query("select state from ledger.workers") == [("stopped",)]
    rig.produce(seed + 1, 1000, ["negative"])
    rig.start()
    rig.wait(rig.level)
    rig.verify()


def test_poison_is_found_by_halving_and_its_neighbours_are_applied(rig: Rig, seed: int) -> None:
    """Sums that Postgres cannot hold: each amount alone looks right, in DuckDB and in the schema."""
    rich = {"customerId": "rich", "productId": "gold", "orderAmount": 9e15, "status": "COMPLETED"}
    fitting, poison = 10, 20  # 10 x 9e17 cents fit into a bigint, the eleventh does not
    records = [orders.order(random.Random(seed), 10**6 + n) | rich for n in range(fitting + poison)]
    rig.produce(seed, 500)
    rig.send([Message("good", b"rich", orders.encode(rig.schema_id, record), record) for record in records])
    rig.produce(seed + 1, 500)
    del rig.sent.messages[500 + fitting : 500 + fitting + poison]
    rig.start()
    rig.wait(rig.level)
    rig.verify_tables()
    letters = rig.query(
        'select d.table_version, count(*), min(d.reason), max(d.reason), max(r."offset") - min(r."offset")'
        " from ledger.dead_letters d join ledger.dead_letter_records r using (record_id) group by 1"
    )
    assert len(letters) == 2
    assert {letter[1:] for letter in letters} == {(poison, "rejected:22003", "rejected:22003", poison - 1)}
    assert (
        rig.query("select sum(dead_lettered), sum(applied + filtered) from ledger.positions group by table_version")
        == [(poison, 1000 + fitting)] * 2
    )
