"""The coded offsets of skipped records say the same when they are read, joined or not."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import skipped

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
