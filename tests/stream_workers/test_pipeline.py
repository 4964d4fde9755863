from __future__ import annotations

from tests.stream_workers.harness import Rig
from tests.stream_workers.orders import BAD

_MARCH = 1_772_582_400_000_000  # 2026-03-04T00:00:00Z in microseconds


def test_every_record_has_one_fate_and_the_tables_are_exact(rig: Rig, seed: int) -> None:
    rig.produce(seed, 8000, [kind for kind in BAD for _ in range(3)])
    rig.mark_end(_MARCH)
    worker = rig.start()
    rig.wait(rig.level)
    rig.verify()
    assert rig.stop(worker) == 0
    assert rig.query("select distinct watermark, ended from ledger.positions") == [(_MARCH, _MARCH)]


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
