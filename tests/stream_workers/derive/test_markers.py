"""Which end-of-input marker may be passed on."""

from __future__ import annotations

from dataclasses import replace

from stream_workers.derive.position import Made, smallest_marker

MADE = Made("version", "source", "output", 0, 10)


def test_a_partition_without_a_marker_holds_them_back() -> None:
    assert smallest_marker([replace(MADE, marker=5), MADE]) is None
    assert smallest_marker([replace(MADE, marker=5), None]) is None
    assert smallest_marker([]) is None


def test_the_smallest_of_the_last_ones_is_passed_on() -> None:
    assert smallest_marker([replace(MADE, marker=5), replace(MADE, marker=3)]) == 3
