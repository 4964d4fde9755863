"""Rows as read from a file: typed columns, the line number of each row, and the lines that are none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from ingestion.batch import RejectedLine
from ingestion.lines import Offsets


@dataclass(frozen=True)
class Rows:
    """Rows out of neighbouring lines. position, next_position: lines of the file done before and after them."""

    position: int
    next_position: int
    frame: pa.RecordBatch
    lines: Offsets
    rejected: Sequence[RejectedLine]
    last: bool


class RowReader(Protocol):
    """Reads a file's rows in order."""

    def take(self, most: int) -> Rows | None:
        """The next rows, of about `most` lines; None at the end of the file."""
        ...


def not_utf8(data: bytes) -> str | None:
    """Why `data` is not UTF-8 text; None when it is."""
    try:
        str(data, "utf-8")
    except UnicodeDecodeError as error:
        return f"byte 0x{data[error.start]:02x} at {error.start}: {error.reason}"
    return None
