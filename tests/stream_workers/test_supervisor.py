"""Workers are kept as the ledger says, whoever dies."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import psutil

from tests.stream_workers.harness import Rig
from tests.stream_workers.supervised import Supervised, lives


def children(rig: Rig) -> list[int]:
    """Worker processes over the rig's database, whether the ledger knows them or not."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if "worker" in process.cmdline() and process.environ().get("HEADRACE_POSTGRES_URL") == rig.database:
                found.append(process.pid)
    return found


def test_starts_restarts_adopts_and_drains(supervised: Supervised, rig: Rig, seed: int) -> None:
    first = supervised.start()
    supervised.wait(lambda: len(supervised.workers()) == 1)
    rig.produce(seed, 2000, ["negative"])
    (pid,) = supervised.workers().values()
    os.kill(pid, signal.SIGKILL)
    supervised.wait(lambda: list(supervised.workers().values()) not in ([pid], []))
    supervised.wait(rig.done)
    assert rig.query("select failures from ledger.restarts") == [(1,)]

    (before,) = supervised.workers().items()
    first.kill()
    first.wait()
    rig.produce(seed + 1, 1000)
    supervised.wait(rig.done)
    second = supervised.start()
    supervised.wait(lambda: b"adopted" in (rig.log_dir / "supervisor-1.log").read_bytes())
    assert list(supervised.workers().items()) == [before]

    rig.query("update ledger.pipelines set desired = 'off' returning 1")
    stopped = "select 1 from ledger.workers where worker = %s and state = 'stopped'"
    supervised.wait(lambda: rig.query(stopped, before[0]))
    supervised.wait(lambda: not lives(before[1]))
    rig.query("update ledger.pipelines set desired = 'on' returning 1")
    supervised.wait(lambda: len(supervised.workers()) == 1)

    second.terminate()
    assert second.wait(40) == 0
    assert not supervised.workers()
    assert rig.query("select * from ledger.leases") == []
    rig.verify()


def test_a_second_supervisor_of_the_host_says_so(supervised: Supervised) -> None:
    supervised.start()
    supervised.wait(lambda: len(supervised.workers()) == 1)
    second = supervised.start()
    supervised.wait(lambda: second.poll() is not None)
    assert second.returncode == 1
    text = (supervised.rig.log_dir / "supervisor-1.log").read_text()
    assert "another supervisor runs on" in text
    assert "Traceback" not in text


def test_a_worker_of_a_changed_declaration_is_not_started_in_a_tight_loop(supervised: Supervised, rig: Rig) -> None:
    rig.query(
        "insert into ledger.table_versions (table_version, table_name, pipeline, state_table, definition)"
        " values ('product_sales@older', 'product_sales', 'orders', 'state.x', '{}') returning 1"
    )
    supervised.start()
    supervised.wait(lambda: rig.query("select 1 from ledger.restarts where failures >= 2"))
    errors = rig.query("select last_error from ledger.workers order by started_at")
    assert any("lives as product_sales@older" in (error or "") for (error,) in errors)


def test_killed_again_and_again_leaves_one_worker(supervised: Supervised, rig: Rig, seed: int, rounds: int) -> None:
    process = supervised.start()
    supervised.wait(supervised.workers)
    for number in range(rounds):
        rig.produce(seed + number, 500, ["negative"])
        process.kill()
        process.wait()
        process = supervised.start()  # at once: the lease of the one before is still in force
        supervised.wait(rig.done)
    supervised.wait(lambda: supervised.log().count(b"adopted") >= 1 and len(supervised.workers()) == 1)
    assert process.poll() is None
    assert rig.query("select * from ledger.restarts") == []
    rig.verify()


def test_killed_right_after_it_started_a_worker(supervised: Supervised, rig: Rig, seed: int, rounds: int) -> None:
    for _ in range(rounds):
        process = supervised.start()
        supervised.wait(lambda: b"started worker=" in supervised.log())
        process.kill()
        process.wait()
        before = supervised.workers()
        assert len(before) <= 1
        supervised.start()
        supervised.wait(lambda: b"adopted" in supervised.log() or b"too many" in supervised.log())
        supervised.wait(lambda: len(supervised.workers()) == 1)
        supervised.wait(lambda: len(children(rig)) == 1)
        process = supervised.processes[-1]
        os.kill(next(iter(supervised.workers().values())), signal.SIGKILL)
        process.kill()
        process.wait()
        supervised.wait(lambda: not children(rig))
    supervised.start()
    rig.produce(seed, 500)
    supervised.wait(rig.done)
    rig.verify()


def test_switched_off_while_no_supervisor_ran(supervised: Supervised, rig: Rig) -> None:
    first = supervised.start()
    supervised.wait(supervised.workers)
    (pid,) = supervised.workers().values()
    first.kill()
    first.wait()
    rig.query("update ledger.pipelines set desired = 'off' returning 1")
    supervised.start()
    supervised.wait(lambda: not lives(pid))
    supervised.wait(lambda: rig.query("select state from ledger.workers") == [("stopped",)])
    assert rig.query("select * from ledger.restarts") == []


def test_a_supervisor_told_to_stop_before_its_turn_touches_nothing(supervised: Supervised, rig: Rig) -> None:
    supervised.start()
    supervised.wait(supervised.workers)
    before = supervised.workers()
    second = supervised.start(HEADRACE_LEASE_SECONDS="200")
    asked = (
        "select 1 from pg_stat_activity where application_name = 'headrace supervisor' and datname = current_database()"
    )
    supervised.wait(lambda: len(rig.query(asked)) == 2)
    second.terminate()
    assert second.wait(20) == 0
    assert b"adopted" not in supervised.log() and b"draining" not in supervised.log()
    assert supervised.workers() == before


def test_a_worker_nobody_knew_of_is_drained_and_one_started_by_hand_is_not(supervised: Supervised, rig: Rig) -> None:
    """A supervisor killed right after it started a worker leaves one that has not said a word yet."""
    supervised.start()
    supervised.wait(supervised.workers)
    (own,) = supervised.workers()
    by_hand = rig.start()
    unknown = rig.start("orders-0-abc123")
    supervised.wait(lambda: unknown.poll() is not None)
    supervised.wait(
        lambda: rig.query("select state from ledger.workers where worker = 'orders-0-abc123'") == [("stopped",)]
    )
    supervised.wait(lambda: len(supervised.workers()) == 2)
    assert own in supervised.workers() and by_hand.poll() is None
    assert rig.query("select * from ledger.restarts") == []


def test_a_worker_that_was_told_to_end_is_followed_by_another_without_a_failure(
    supervised: Supervised, rig: Rig
) -> None:
    """Its supervisor was killed while it drained, and it is wanted again."""
    first = supervised.start()
    supervised.wait(supervised.workers)
    (before,) = supervised.workers().items()
    first.kill()
    first.wait()
    os.kill(before[1], signal.SIGSTOP)  # it drains for as long as this test needs
    os.kill(before[1], signal.SIGTERM)
    rig.query("update ledger.workers set state = 'draining' returning 1")
    supervised.start()
    supervised.wait(lambda: b"state=draining" in supervised.log())
    os.kill(before[1], signal.SIGCONT)
    supervised.wait(lambda: supervised.workers() and list(supervised.workers().items()) != [before])
    assert rig.query("select * from ledger.restarts") == []
    assert rig.query("select state from ledger.workers where worker = %s", before[0]) == [("stopped",)]
