"""Windows that cannot be meant are refused, with a remedy."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from headrace.errors import DeclarationError
from tests.topology.declare import program, table, topic
from topology import Count, Hopping, Session, Tumbling
from topology.window import TimeWindow, Window
from topology.windowing import first_start


@pytest.mark.parametrize(
    ("window", "says"),
    [
        (lambda: Hopping("10 minutes", "0s"), 'cannot begin every "0s"'),
        (lambda: Hopping("0s", "1s"), "is empty"),
        (lambda: Hopping("1 minute", "10 minutes"), 'use an every of at most "1 minute"'),
        (lambda: Hopping("1 minute", "60s"), "do not overlap; use Tumbling"),
        (lambda: Hopping("1 day", "1 s"), "86400 rows each, 10000 at most"),
        (lambda: Hopping("a day", "1 s"), '"a day" is not a duration'),
        (lambda: Session("0 minutes"), 'a gap of "0 minutes" ends no session'),
        (lambda: Count(0), "a window of 0 records is none"),
        (lambda: Count(True), "a window of True records is none"),
        (lambda: Session("a while"), '"a while" is not a duration'),
        (lambda: Tumbling("7 hours", "Europe/Berlin"), "use whole days or a part of a day"),
    ],
)
def test_a_wrong_window_is_refused(window: Callable[[], Window], says: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        window()
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("window", "since", "says"),
    [
        (Tumbling("1 day", "Europe/Berln"), "2026-01-01", 'did you mean "Europe/Berlin"?'),
        (Tumbling("15 minutes", "Europe/Berlin"), "2026-01-01", "change by 60 minutes at 2026-10-25T01:00Z"),
        (Tumbling("1 day", "America/St_Johns"), "2000-01-01", 'tears windows of "1 day"'),
    ],
)
def test_a_wrong_zone_is_refused(window: Tumbling, since: str, says: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        program(table(topic(not_before=since), window=window))
    assert str(caught.value).startswith("assets/orders.py: per_customer.window: ")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"by": ["productId"]},
            'orders has another key; add "customerId" to by, or read the records re-keyed: Derived(..., '
            'key="productId")',
        ),
        ({"by": []}, 'orders has another key; add "customerId" to by'),
    ],
)
def test_sessions_need_the_key_of_their_topic(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        program(table(window=Session("10 minutes"), **changes))
    assert str(caught.value).startswith("assets/orders.py: per_customer.window: records of a session may be in")
    assert str(caught.value).endswith(says)
    program(table(window=Session("10 minutes"), by=["productId", "customerId"]))
    with pytest.raises(DeclarationError, match="has no not_before"):
        program(table(topic(not_before=None), window=Session("10 minutes")))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"by": ["productId"]}, "window: records of a window may be in several partitions, for orders has another key"),
        ({"late": "drop"}, "late: windows of records go by offset, no record is late; leave it out"),
        ({"allowed_lateness": "1 minute"}, "allowed_lateness: windows of records go by offset, no record is late"),
        ({"measures": {"windowRecords": "count(*)"}}, 'column name "windowRecords" is reserved; rename it'),
    ],
)
def test_wrong_windows_of_records_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        program(table(window=Count(10), **changes))
    assert says in str(caught.value)


def test_windows_of_records_have_no_days_and_need_no_first_one() -> None:
    (found,) = program(table(topic(not_before=None), window=Count(10))).tables
    assert not found.windowed
    assert [column.name for column in found.columns[:3]] == ["customerId", "windowNumber", "windowRecords"]


def test_the_version_is_the_windows_meaning() -> None:
    def version(window: Window, **changes: Any) -> str:
        return program(table(window=window, **changes)).tables[0].version

    windows: list[Window] = [
        Tumbling("1 hour"),
        Tumbling("1 hour", "Europe/Berlin"),
        Tumbling("1 hour", "Europe/Paris"),
        Hopping("1 hour", "10 minutes"),
        Hopping("1 hour", "20 minutes"),
        Session("1 hour"),
        Session("2 hours"),
        Count(10),
        Count(20),
    ]
    assert len({version(window) for window in windows}) == len(windows)
    assert version(Tumbling("60 minutes")) == version(Tumbling("1 hour"))
    assert version(Hopping("60 minutes", "600s")) == version(Hopping("1 hour", "10 minutes"))


@pytest.mark.parametrize(
    ("window", "first"),
    [
        (Hopping("10 minutes", "1 minute"), "2025-12-31T23:51:00"),
        (Hopping("10 minutes", "4 minutes"), "2025-12-31T23:52:00"),
        (Tumbling("1 day", "Europe/Berlin"), "2025-12-31T23:00:00"),
        (Tumbling("1 day", "America/New_York"), "2025-12-31T05:00:00"),
        (Tumbling("11 hours"), "2025-12-31T14:00:00"),
        (Session("11 hours"), "2026-01-01T00:00:00"),
    ],
)
def test_the_first_window_holds_the_first_moment(window: TimeWindow, first: str) -> None:
    moment = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
    start = first_start(window, moment)
    assert datetime.fromtimestamp(start / 1e6, UTC).isoformat() == first + "+00:00"
