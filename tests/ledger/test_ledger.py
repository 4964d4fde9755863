from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from headrace.errors import Fenced, Terminal
from ledger import Connection, connect, dead_letters, leases, letters, migrations, reports, shards, transaction, workers
from ledger.connection import WORKER_SESSION
from ledger.dead_letters import DeadLetter

_VERSION = "totals@000000000000"
_MOVE = transaction.Advance(
    table_version=_VERSION,
    shard=0,
    epoch=1,
    topic="orders",
    partition=0,
    from_offset=10,
    to_offset=20,
    leader_epoch=0,
    consumed=8,
    applied=5,
    dead_lettered=1,
    filtered=1,
    control=1,
    late_applied=2,
    watermark_before=None,
    watermark=700,
    ended=None,
    min_event=100,
    max_event=700,
    level=True,
)


@pytest.fixture
def db(database: str) -> Iterator[Connection]:
    with connect(database, options=WORKER_SESSION) as connection:
        connection.execute(
            "insert into ledger.table_versions (table_version, table_name, pipeline, state_table, definition)"
            " values (%s, 'totals', 'orders', 'state.x', '{}')",
            (_VERSION,),
        )
        yield connection


def _claimed(db: Connection, worker: str = "w1") -> shards.Claim:
    (claim,) = shards.claim(db, [_VERSION], 0, worker)
    if not claim.positions:
        shards.start(db, claim, "orders", 0, "id", 10)
    return claim


def _moving(claim: shards.Claim) -> transaction.Advance:
    return replace(_MOVE, epoch=claim.epoch)


def test_epochs_never_repeat_for_a_version_made_again(db: Connection, database: str) -> None:
    before = _claimed(db).epoch
    db.execute("delete from ledger.shards")
    assert _claimed(db).epoch > before


def test_advance_counts_every_fate_and_the_gaps(db: Connection, database: str) -> None:
    move = _moving(_claimed(db))
    with db.transaction():
        transaction.advance(db, move)
    (found,) = reports.accounting(reports.engine(database))
    assert (found.consumed, found.applied, found.dead_lettered, found.filtered, found.control) == (8, 5, 1, 1, 1)
    assert (found.first_offset, found.next_offset, found.gaps, found.late_applied) == (10, 20, 2, 2)
    assert found.holds


def test_advance_refuses_another_epoch_and_another_position(db: Connection) -> None:
    move = _moving(_claimed(db))
    for wrong in (replace(move, epoch=move.epoch + 1), replace(move, from_offset=11)):
        with pytest.raises(Fenced, match="nothing was written"), db.transaction():
            transaction.advance(db, wrong)


def test_the_database_refuses_fates_that_do_not_add_up(db: Connection) -> None:
    move = _moving(_claimed(db))
    for wrong in (replace(move, applied=4), replace(move, consumed=11, applied=8)):
        with pytest.raises(psycopg.errors.CheckViolation), db.transaction():
            transaction.advance(db, wrong)


def test_a_claim_ends_the_backend_that_holds_the_shard(db: Connection, database: str) -> None:
    move = _moving(_claimed(db, "zombie"))
    with pytest.raises(psycopg.OperationalError), db.transaction():
        transaction.advance(db, move)
        with connect(database) as other:
            (claim,) = shards.claim(other, [_VERSION], 0, "w2")
            assert claim.epoch > move.epoch
            assert claim.positions["orders"].next_offset == 10
        db.execute("select 1")


def test_a_claim_waits_for_a_commit_in_flight(db: Connection, database: str) -> None:
    move = _moving(_claimed(db))
    claims: list[shards.Claim] = []

    def claim() -> None:
        with connect(database) as other:
            claims.extend(shards.claim(other, [_VERSION], 0, "w2"))

    with db.transaction():
        transaction.advance(db, move)
        thread = threading.Thread(target=claim)
        thread.start()
        time.sleep(0.3)
        assert not claims
    thread.join(10)
    assert claims[0].positions["orders"].next_offset == 20


def test_batch_index_merges_neighbours_until_an_entry_is_full(db: Connection) -> None:
    _claimed(db)
    with db.transaction():
        entry = transaction.index(db, _MOVE, [3], None)
    assert entry == 10
    second = replace(_MOVE, from_offset=20, to_offset=150_020, consumed=150_000, applied=149_997)
    with db.transaction():
        assert transaction.index(db, second, [3, 4], entry) is None
    third = replace(_MOVE, from_offset=150_020, to_offset=150_030)
    with db.transaction():
        assert transaction.index(db, third, [5], None) == 150_020
    rows = db.execute("select from_offset, to_offset, records, days from ledger.batch_index order by 1").fetchall()
    assert rows == [(10, 150_020, 150_008, [3, 4]), (150_020, 150_030, 8, [5])]


def test_batch_ranges_join_neighbours_and_leave_out_what_does_not_reach_into_the_window(
    db: Connection, database: str
) -> None:
    day = 86_400_000_000
    rows = [
        (0, 0, 10, 0, 500, [0, 1]),
        (0, 10, 20, 100, day + 600, [0, 1]),
        (0, 20, 30, 2 * day, 2 * day, [2]),
        (0, 30, 40, day, day + 900, [1]),
        (1, 5, 15, day + 500, day + 700, [1]),
        (2, 0, 10, 0, 9 * day, [0, 1, 2]),
    ]
    for shard, start, end, low, high, days in rows:
        db.execute(
            "insert into ledger.batch_index (table_version, shard, topic, partition, from_offset, to_offset, records,"
            " applied, min_event, max_event, days) values (%s, %s, 'orders', %s, %s, %s, 1, 1, %s, %s, %s)",
            (_VERSION, shard, shard, start, end, low, high, days),
        )
    ledger = reports.engine(database)

    def ranges(of: list[int], window: tuple[int, int] | None = None) -> list[str]:
        return [str(one) for one in reports.batch_ranges(ledger, _VERSION, of, window)]

    assert ranges([0, 1]) == ["orders[0]@0-39", "orders[1]@5-14"]
    assert ranges([0, 1], (day, day + 500)) == ["orders[0]@10-19", "orders[0]@30-39"]
    assert ranges([1], (day + 500, day + 501)) == ["orders[1]@5-14"]
    assert ranges([]) == ranges([7]) == []


def test_a_dead_letter_is_kept_once_per_coordinates_with_each_tables_reason(db: Connection, database: str) -> None:
    one = DeadLetter("orders", "a@1", "bad_time", partition=1, offset=5, payload=b"\0\xff", headers={"file": "x\0y"})
    other = replace(one, table_version="b@1", reason="null_key:productId")
    line = DeadLetter("orders", "ingest", "wrong_type", file_hash="h", file_name="f.csv", line=7, payload=b"a,b")
    for _ in range(2):
        with db.transaction():
            dead_letters.record(db, [one, other, line])
    engine = reports.engine(database)
    assert reports.dead_letters_by_reason(engine) == {"bad_time": 1, "null_key:productId": 1}
    assert reports.rejected_lines(engine) == {"wrong_type": 1}
    listed = letters.find(db, letters.Choice(table="b"))
    assert [(row.partition, row.offset, row.reason) for row in listed] == [(1, 5, "null_key:productId")]
    whole = reports.dead_letter(engine, listed[0].record_id)
    assert whole is not None
    assert whole.payload == b"\0\xff"
    assert whole.reasons == {"a@1": "bad_time", "b@1": "null_key:productId"}
    assert reports.dead_letter(engine, 10**9) is None


def test_leases_are_taken_kept_and_expire_by_the_databases_clock(db: Connection) -> None:
    assert leases.take(db, "shard:orders:0", "w1", 0.3)
    assert leases.take(db, "shard:orders:0", "w1", 0.3)
    assert not leases.take(db, "shard:orders:0", "w2", 0.3)
    assert leases.free(db, ["shard:orders:0", "shard:orders:1"]) == ["shard:orders:1"]
    db.execute("update ledger.leases set expires_at = clock_timestamp() - interval '1 ms'")
    assert leases.take(db, "shard:orders:0", "w2", 5)
    assert leases.renew(db, ["shard:orders:0"], "w1", 5) == set()
    leases.release(db, ["shard:orders:0"], "w2")
    assert leases.free(db, ["shard:orders:0"]) == ["shard:orders:0"]


def test_an_override_wins_until_it_expires(db: Connection) -> None:
    workers.declare(db, ["orders", "payments"])
    workers.set_desired(db, "payments", False)
    assert workers.desired(db) == {"orders": True, "payments": False}
    db.execute("update ledger.pipelines set override = 'off', override_until = clock_timestamp() + interval '1 hour'")
    assert workers.desired(db) == {"orders": False, "payments": False}
    db.execute("update ledger.pipelines set override_until = clock_timestamp() - interval '1 ms'")
    assert workers.desired(db) == {"orders": True, "payments": False}


def test_migrations_run_once_and_a_newer_ledger_is_refused(database: str) -> None:
    assert migrations.migrate(database) == []
    with connect(database) as connection:
        connection.execute("insert into public.headrace_migrations (number, name) values (9999, 'later')")
    with pytest.raises(Terminal, match="newer Headrace"):
        migrations.migrate(database)


def test_every_statement_is_used() -> None:
    root = Path(__file__).parents[2]
    rooms = ("ledger", "stream_workers", "ingestion")
    code = "".join(f.read_text() for room in rooms for f in (root / room).rglob("*.py"))
    unused = [f.stem for f in (root / "ledger/sql").glob("*.sql") if f'"{f.stem}"' not in code]
    assert unused == []
