"""Made-up orders: plausible, out of order by seconds, the same for the same seed, with an exact number of bad ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import numpy as np

FIELDS = ("orderId", "customerId", "productId", "quantity", "orderAmount", "orderTimestamp", "status")
REJECTED_KINDS = ("missing_column", "wrong_type", "bad_enum")
"""Bad rows that never reach the topic; the kind is the reason of the dead letter."""
JUDGED_KINDS = {
    "negative_amount": "require:positive_amount",
    "nan": "not_finite:orderAmount",
    "bad_time": "bad_time",
}
"""Bad rows that a worker refuses, with the reason of the dead letter."""
BAD_KINDS = (*REJECTED_KINDS, *JUDGED_KINDS)

_CUSTOMERS, _PRODUCTS = 5_000, 200
_DAY = 86_400_000
_OUT_OF_ORDER = 90_000  # milliseconds
_BERLIN = timedelta(hours=1)


@dataclass(frozen=True)
class Orders:
    """Columns of orders, all as text; kind: what is bad about each, None for a good one."""

    columns: tuple[list[str], ...]
    kinds: Sequence[str | None]

    def __len__(self) -> int:
        return len(self.kinds)

    def counted(self) -> dict[str, int]:
        """Bad orders by kind, every kind named."""
        found = Counter(self.kinds)
        return {kind: found[kind] for kind in BAD_KINDS}


def make(first: int, count: int, day: date, *, seed: int, bad: float, kinds: Sequence[str] = BAD_KINDS) -> Orders:
    """`count` orders of one UTC day numbered from `first`, of which round(count * bad) are bad, kinds in turn."""
    rng = np.random.default_rng((seed, first, day.toordinal()))
    millis = np.sort(rng.integers(0, _DAY, count)) + rng.integers(-_OUT_OF_ORDER, _OUT_OF_ORDER, count)
    millis = np.clip(millis, 0, _DAY - 1)
    start = np.datetime64(day, "ms")
    east = rng.random(count) < 0.1  # written with an offset, as a shop in another zone does
    local = start + millis + np.where(east, int(_BERLIN.total_seconds() * 1000), 0)
    zones = np.where(east, "+01:00", "Z")
    times = [
        text + zone for text, zone in zip(np.datetime_as_string(local, "ms").tolist(), zones.tolist(), strict=True)
    ]
    cents = np.minimum(np.exp(rng.normal(8.0, 1.0, count)).astype(np.int64) + 1, 99_999_999)
    columns = (
        [f"o{number:09d}" for number in range(first, first + count)],
        [f"c{number:05d}" for number in rng.integers(0, _CUSTOMERS, count).tolist()],
        [f"p{number:04d}" for number in np.minimum(rng.geometric(0.02, count), _PRODUCTS).tolist()],
        list(map(str, rng.integers(1, 10, count).tolist())),
        [f"{amount // 100}.{amount % 100:02d}" for amount in cents.tolist()],
        times,
        rng.choice(["COMPLETED", "FAILED", "PENDING"], count, p=[0.9, 0.04, 0.06]).tolist(),
    )
    marks: list[str | None] = [None] * count
    for turn, row in enumerate(rng.permutation(count)[: round(count * bad)].tolist()):
        marks[row] = kinds[turn % len(kinds)]
        spoil(columns, row, kinds[turn % len(kinds)])
    return Orders(columns, marks)


def spoil(columns: tuple[list[str], ...], row: int, kind: str) -> None:
    """Make one order bad, in its text; a `missing_column` shows only when lines are made."""
    _, _, _, quantity, amount, moment, status = columns
    if kind == "wrong_type":
        quantity[row] = "three"
    elif kind == "bad_enum":
        status[row] = "RETURNED"
    elif kind == "negative_amount":
        amount[row] = "-" + amount[row]
    elif kind == "nan":
        amount[row] = "NaN"
    elif kind == "bad_time":
        moment[row] = "yesterday at noon"


def csv_lines(orders: Orders) -> list[str]:
    """The orders as CSV lines, without a header; a `missing_column` lacks its last two."""
    rows = zip(*orders.columns, strict=True)
    lines = [f"{a},{b},{c},{d},{e},{f},{g}\n" for a, b, c, d, e, f, g in rows]
    for row in _missing(orders):
        lines[row] = ",".join(column[row] for column in orders.columns[:-2]) + "\n"
    return lines


def json_lines(orders: Orders) -> list[str]:
    """The orders as JSON lines; a `missing_column` lacks its productId."""
    template = (
        '{{"orderId":"{}","customerId":"{}","productId":"{}","quantity":{},'
        '"orderAmount":{},"orderTimestamp":"{}","status":"{}"}}\n'
    )
    lines = [template.format(*row) for row in zip(*orders.columns, strict=True)]
    for row, kind in enumerate(orders.kinds):
        if kind == "wrong_type":
            lines[row] = lines[row].replace('"quantity":three', '"quantity":"three"')
    for row in _missing(orders):
        lines[row] = lines[row].replace(f'"productId":"{orders.columns[2][row]}",', "")
    return lines


def _missing(orders: Orders) -> list[int]:
    return [row for row, kind in enumerate(orders.kinds) if kind == "missing_column"]


def midnight(day: date) -> datetime:
    """The begin of a UTC day."""
    return datetime.combine(day, time(), UTC)
