"""The coded offsets of skipped records say the same when they are read, joined or not."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import connect, dead_letters, letters, skipped
from ledger.dead_letters import DeadLetter

OFFSETS = st.lists(st.integers(0, 2**62), unique=True, max_size=20).map(sorted)


@settings(deadline=None, derandomize=True)
@given(batches=st.lists(st.tuples(OFFSETS, OFFSETS), max_size=4))
def test_what_is_coded_is_read(batches: list[tuple[list[int], list[int]]]) -> None:
    coded = [skipped.encoded(np.array(late, np.int64), np.array(twice, np.int64)) for late, twice in batches]
    assert [one is None for one in coded] == [not late and not twice for late, twice in batches]
    assert skipped.decoded(b"".join(one for one in coded if one)) == {
        skipped.LATE: sorted(offset for late, _ in batches for offset in late),
        skipped.DUPLICATE: sorted(offset for _, twice in batches for offset in twice),
    }


def test_neighbours_take_a_byte_each() -> None:
    coded = skipped.encoded(np.arange(1_000_000, 1_100_000), np.empty(0, np.int64))
    assert coded is not None
    assert len(coded) < 100_010


def test_what_was_late_and_replayed_is_no_letter_that_was_sent(database: str) -> None:
    late = DeadLetter("orders", "closed@1", "late", partition=0, offset=7, payload=b"{}")
    bad = DeadLetter("orders", "closed@1", "undecodable", partition=0, offset=8, payload=b"{")
    with connect(database) as db:
        db.execute(
            "insert into ledger.table_versions (table_version, table_name, pipeline, state_table, definition)"
            " values ('closed@1', 'closed', 'orders', 'state.closed', '{}')"
        )
        dead_letters.record(db, [late, bad])
        assert dead_letters.new(db, "orders", "orders", 0, [7, 8, 9]) == {7, 9}
        assert [count.reason for count in letters.counted(db)] == ["undecodable"]
