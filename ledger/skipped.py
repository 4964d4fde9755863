"""Offsets of late and duplicate records in the batch index: which they are, without their payloads (engine rule F4).

The column `skipped` is a row of chunks, so that neighbouring batches are joined by appending. A chunk is a row of
varints (seven bits a byte, lowest first, the high bit on all but the last byte): fate (1 late, 2 duplicate), number of
offsets, the first offset, then the differences to the one before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from ledger.connection import Connection

Offsets = npt.NDArray[np.int64]
LATE, DUPLICATE = 1, 2
Fate = Literal["late", "duplicate"]
NUMBERS: Mapping[Fate, int] = {"late": LATE, "duplicate": DUPLICATE}
_WIDTH = 10  # bytes of the longest varint


def encoded(late: Offsets, duplicate: Offsets) -> bytes | None:
    """The chunks of a batch, offsets ascending; None where nothing was skipped."""
    chunks = [_chunk(fate, offsets) for fate, offsets in ((LATE, late), (DUPLICATE, duplicate)) if offsets.size]
    return b"".join(chunks) or None


def decoded(skipped: bytes) -> dict[int, list[int]]:
    """Ascending offsets by fate."""
    found: dict[int, list[int]] = {LATE: [], DUPLICATE: []}
    numbers = _varints(skipped)
    for fate in numbers:
        offset, count = 0, next(numbers)
        for _ in range(count):
            offset += next(numbers)
            found[fate].append(offset)
    return {fate: sorted(offsets) for fate, offsets in found.items()}


def read(db: Connection, table_version: str, topic: str, partition: int) -> dict[int, list[int]]:
    """Ascending offsets by fate, of a partition of a table version."""
    rows = db.execute(
        "select skipped from ledger.batch_index where table_version = %s and topic = %s and partition = %s"
        " and skipped is not null order by from_offset",
        (table_version, topic, partition),
    )
    return decoded(b"".join(row[0] for row in rows))


def fates(db: Connection, table_version: str, topic: str, partition: int, offsets: Sequence[int]) -> dict[int, Fate]:
    """Fate by offset, of those offsets of a partition that a table version skipped."""
    rows = db.execute(
        "select skipped from ledger.batch_index b where table_version = %s and topic = %s and partition = %s"
        " and skipped is not null and exists (select from unnest(%s::bigint[]) as o"
        " where o >= b.from_offset and o < b.to_offset)",
        (table_version, topic, partition, list(offsets)),
    )
    found, wanted = decoded(b"".join(row[0] for row in rows)), set(offsets)
    return {offset: name for name, number in NUMBERS.items() for offset in wanted.intersection(found[number])}


def _chunk(fate: int, offsets: Offsets) -> bytes:
    values = np.concatenate([[fate, offsets.size, offsets[0]], np.diff(offsets)]).astype(np.uint64)
    groups = np.stack([(values >> np.uint64(7 * i)) & np.uint64(127) for i in range(_WIDTH)], axis=1)
    length = np.maximum(1, _WIDTH - np.argmax(groups[:, ::-1] != 0, axis=1))
    length[values == 0] = 1
    place = np.arange(_WIDTH)
    octets = groups.astype(np.uint8) | np.where(place < (length - 1)[:, None], 128, 0).astype(np.uint8)
    return bytes(octets[place < length[:, None]])


def _varints(octets: bytes) -> Iterator[int]:
    value, shift = 0, 0
    for octet in octets:
        value |= (octet & 127) << shift
        shift += 7
        if octet < 128:
            yield value
            value, shift = 0, 0
