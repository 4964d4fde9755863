"""Lines of a file: numbered, found by their line ends in one pass over each block, with their exact bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from ingestion.errors import FileError

_BLOCK = 4 << 20
_LONGEST = 16 << 20  # no text file of records has longer lines; without a bound a binary file would fill the memory

Offsets = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Lines:
    """Neighbouring lines: `data[starts[i]:ends[i]]` is the i-th without its line end.

    first: number of the first line in the file, from 1. last: the file ends after them.
    """

    data: bytes
    starts: Offsets
    ends: Offsets
    first: int
    last: bool

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> bytes:
        return self.data[self.starts[index] : self.ends[index]]

    def texts(self) -> list[bytes]:
        """All of them."""
        return [self.data[start:end] for start, end in zip(self.starts.tolist(), self.ends.tolist(), strict=True)]


class LineFile:
    """A file read line by line, many at a time. Line ends are LF or CRLF; the last line may lack its own."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self._data = b""
        self._after = np.empty(0, np.int64)  # offset after each complete line of _data
        self._at = 0  # lines of _data already consumed
        self._ended = False
        self.consumed = 0

    def peek(self, count: int) -> Lines:
        """The next lines, `count` of them or all there are, without consuming them."""
        while not self._ended and len(self._after) - self._at <= count:  # one more line: is this the last?
            self._fill()
        after = self._after[self._at : self._at + count]
        begin = self._start()
        data = self._data[begin : int(after[-1])] if len(after) else b""
        stops = after - begin
        starts = np.concatenate(([0], stops[:-1])) if len(stops) else stops
        return Lines(
            data,
            starts,
            _without_line_ends(data, stops),
            self.consumed + 1,
            self._ended and self._at + len(after) == len(self._after),
        )

    def consume(self, count: int) -> None:
        """Go on behind the next `count` lines; fewer when the file ends before."""
        while count:
            if not self._ended and self._at == len(self._after):
                self._fill()
                continue
            step = min(count, len(self._after) - self._at)
            if not step:
                return
            self._at += step
            self.consumed += step
            count -= step

    def _start(self) -> int:
        return int(self._after[self._at - 1]) if self._at else 0

    def _fill(self) -> None:
        begin = self._start()
        rest = self._data[begin:]
        known = self._after[self._at :] - begin
        block = self._file.read(_BLOCK)
        found = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n")) + (len(rest) + 1)
        self._data = rest + block
        self._after = np.concatenate((known, found))
        self._at = 0
        if not block:
            self._ended = True
            if self._data and (not len(self._after) or self._after[-1] < len(self._data)):
                self._after = np.append(self._after, len(self._data))
        elif len(self._data) - (int(self._after[-1]) if len(self._after) else 0) > _LONGEST:
            number = self.consumed + len(self._after) + 1
            raise FileError(
                f"{self._name}: line {number} is longer than {_LONGEST >> 20} MiB, so this is not a file of lines; "
                "replace it and run the ingest again"
            )


def _without_line_ends(data: bytes, stops: Offsets) -> Offsets:
    if not len(stops):
        return stops
    codes = np.frombuffer(data, np.uint8)
    ends = stops - (codes[stops - 1] == ord("\n"))
    found: Offsets = ends - ((ends > 0) & (codes[np.maximum(ends, 1) - 1] == ord("\r")))
    return found
