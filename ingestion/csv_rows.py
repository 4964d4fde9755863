"""CSV (RFC 4180: commas, double quotes, a header line) -> typed rows, each with its line number, and the bad lines.

Lines are put together to rows here, not in the parser: a quoted value may contain line ends, and a quote that is never
closed must cost its own line and not the rest of the file. Parsing is pyarrow's, one call per batch.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from ingestion import columns
from ingestion.batch import LARGEST_ROW, Reason, RejectedLine, too_large
from ingestion.errors import FileError
from ingestion.lines import LineFile, Lines, Offsets
from ingestion.rows import Rows, not_utf8
from schemas.avro import AvroSchema, did_you_mean

_MOST_LINES = 1_000  # of one row


@dataclass(frozen=True)
class _Row:
    """A row that may span lines: index of its first line, number of lines, bytes without the last line end."""

    index: int
    lines: int
    data: bytes


class CsvRows:
    """Rows of a CSV file. `names`: file column of a field where the two differ. The header is read here."""

    def __init__(self, file: LineFile, schema: AvroSchema, names: Mapping[str, str], name: str) -> None:
        self._file = file
        self._schema = schema
        self._header = _header(file, name)
        self._wanted = {f.name: names.get(f.name, f.name) for f in schema.fields}
        for field in schema.fields:
            column = self._wanted[field.name]
            if column not in self._header and not columns.optional(field):
                raise FileError(
                    f'{name}: the header has no column "{column}"{did_you_mean(column, self._header)}; nothing of the '
                    "file was produced; correct it, or name the column in the FileSource's `columns`"
                )

    def take(self, most: int) -> Rows | None:
        """The next rows, of about `most` lines; None at the end of the file."""
        lines = self._file.peek(most)
        if not len(lines):
            return None
        rejected: list[RejectedLine] = []
        parsed = self._plain(lines)
        if parsed is None:
            rows, lines = self._assemble(most, rejected)
            rows, table, bad = self._parse_rows(rows, lines.first, rejected)
            indexes = np.array([row.index for row in rows], np.int64)
            raw = [row.data for row in rows]
        else:
            table, bad = parsed
            indexes, raw = np.arange(len(lines)), None
        numbers = indexes + lines.first
        for row, expected, actual in bad:
            payload = raw[row] if raw is not None else lines[row]
            reason: Reason = "missing_column" if actual < expected else "extra_column"
            detail = f"{actual} values for {expected} columns"
            rejected.append(RejectedLine(int(numbers[row]), payload, reason, detail))
        if bad:
            well = np.delete(np.arange(len(numbers)), [row for row, _, _ in bad])
            numbers = numbers[well]
        else:
            well = None
        frame, kept = self._typed(table, numbers, lambda row: _payload(lines, raw, row, well), rejected)
        self._file.consume(len(lines))
        return Rows(lines.first - 1, lines.first - 1 + len(lines), frame, kept, sorted(rejected, key=_line), lines.last)

    def _typed(
        self, table: pa.Table, numbers: Offsets, payload: Any, rejected: list[RejectedLine]
    ) -> tuple[pa.RecordBatch, Offsets]:
        rejects = columns.Rejects()
        typed = []
        for field in self._schema.fields:
            column = self._wanted[field.name]
            if column in self._header:
                text = table.column(self._header.index(column))
                typed.append(columns.of_text(text.combine_chunks(), field, rejects))
            else:
                typed.append(columns.default(field, table.num_rows))
        for row, (reason, detail) in rejects.reasons.items():
            rejected.append(RejectedLine(int(numbers[row]), payload(row), reason, detail))
        frame, kept = columns.kept(typed, self._schema, rejects)
        return frame, numbers[kept]

    def _plain(self, lines: Lines) -> tuple[pa.Table, list[tuple[int, int, int]]] | None:
        """The good path: every line is a row. None when it is not so."""
        sizes = lines.ends - lines.starts
        if int(sizes.min()) == 0 or int(sizes.max()) > LARGEST_ROW or not_utf8(lines.data) is not None:
            return None
        if b'"' in lines.data and (bool((_quotes(lines) % 2).any()) or _open_at_end(lines[-1], False)):
            return None
        if lines.data.count(b"\r") != lines.data.count(b"\r\n"):  # the parser would end a row at each of the others
            return None
        try:
            table, bad = self._parse(lines.data)
        except pa.ArrowInvalid:
            return None
        # A stray quote can make the number of quotes even although a value goes on: then the count is short.
        return (table, bad) if table.num_rows + len(bad) == len(lines) else None

    def _parse(self, data: bytes) -> tuple[pa.Table, list[tuple[int, int, int]]]:
        """All columns as text (nothing between commas is null), and (row, expected, actual values) of the ragged."""
        bad: list[tuple[int, int, int]] = []

        def ragged(row: Any) -> str:
            bad.append((row.number - 1, row.expected_columns, row.actual_columns))
            return "skip"

        names = [str(number) for number in range(len(self._header))]
        if not data:
            return pa.table([pa.array([], pa.string()) for _ in names], names=names), bad
        table = pyarrow.csv.read_csv(
            pa.BufferReader(data),
            read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=names),
            parse_options=pyarrow.csv.ParseOptions(
                newlines_in_values=True, ignore_empty_lines=False, invalid_row_handler=ragged
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                null_values=[""],
            ),
        )
        return table, bad

    def _parse_rows(
        self, rows: list[_Row], first: int, rejected: list[RejectedLine]
    ) -> tuple[list[_Row], pa.Table, list[tuple[int, int, int]]]:
        """Rows that the parser takes for one row each, and their columns; the others are rejected."""
        for _ in range(2):
            try:
                table, bad = self._parse(b"".join(row.data + b"\n" for row in rows))
                if table.num_rows + len(bad) == len(rows):
                    return rows, table, bad
            except pa.ArrowInvalid:
                pass
            single = [self._is_one(row.data) for row in rows]
            for row, good in zip(rows, single, strict=True):
                if not good:
                    detail = "not one row of values; is there a carriage return inside the line?"
                    rejected.append(RejectedLine(first + row.index, row.data, "bad_csv", detail))
            rows = [row for row, good in zip(rows, single, strict=True) if good]
        raise FileError(f"line {first} and following cannot be read as CSV; nothing of them was produced")

    def _is_one(self, data: bytes) -> bool:
        try:
            table, bad = self._parse(data)
        except pa.ArrowInvalid:
            return False
        return bool(table.num_rows + len(bad) == 1)

    def _assemble(self, most: int, rejected: list[RejectedLine]) -> tuple[list[_Row], Lines]:
        """Rows out of lines, one by one; lines that cannot be one are rejected, empty ones skipped. Returns the rows
        and the lines they (and the rejected) take."""
        lines = self._file.peek(most + _MOST_LINES)
        texts = lines.texts()
        rows: list[_Row] = []
        index = 0
        while index < min(most, len(lines)):
            line = texts[index]
            if not line:
                index += 1
                continue
            if len(line) > LARGEST_ROW:
                rejected.append(too_large(lines.first + index, line))
                index += 1
                continue
            if (why := not_utf8(line)) is not None:
                rejected.append(RejectedLine(lines.first + index, line, "not_utf8", why))
                index += 1
                continue
            row = self._row(lines, index, line)
            if row is None:
                detail = "a quoted value begins and does not end, or ends in another row"
                rejected.append(RejectedLine(lines.first + index, line, "unclosed_quote", detail))
                index += 1
                continue
            rows.append(row)
            index += row.lines
        return rows, self._file.peek(index)

    def _row(self, lines: Lines, index: int, line: bytes) -> _Row | None:
        """The row that begins at line `index`; None when its quotes do not match."""
        if b'"' not in line or not _open_at_end(line, False):
            return _Row(index, 1, line)
        size, opened = len(line), True
        for stop in range(index + 1, min(index + _MOST_LINES, len(lines))):
            following = lines[stop]
            size += len(following)
            if size > LARGEST_ROW:
                return None
            opened = _open_at_end(following, True)
            if not opened:
                data = lines.data[lines.starts[index] : lines.ends[stop]]
                if not_utf8(data) is not None:
                    return None
                return _Row(index, stop - index + 1, data) if self._is_one(data) and not self._parse(data)[1] else None
        return None


def _header(file: LineFile, name: str) -> list[str]:
    lines = file.peek(1)
    if not len(lines):
        raise FileError(f"{name}: the file is empty; a CSV file begins with a header line")
    file.consume(1)
    line = lines[0].removeprefix(b"\xef\xbb\xbf")
    if (why := not_utf8(line)) is not None or b"\0" in line:
        raise FileError(
            f"{name}: the header is not UTF-8 text ({why or 'it has zero bytes'}); convert the file to UTF-8"
        )
    header = [column.strip() for column in next(csv.reader([line.decode()]), [])]
    for column in header:
        if header.count(column) > 1:
            raise FileError(f'{name}: the header has the column "{column}" twice; nothing of the file was produced')
    return header


def _open_at_end(line: bytes, opened: bool) -> bool:
    """Whether the line ends inside a quoted value, `opened`: whether it begins inside one."""
    at = 0
    while True:
        if not opened and line[at : at + 1] == b'"':
            opened, at = True, at + 1
        if opened:
            at = line.find(b'"', at)
            if at < 0:
                return True
            if line[at + 1 : at + 2] == b'"':
                at += 2
                continue
            opened = False
        at = line.find(b",", at) + 1
        if not at:
            return False


def _quotes(lines: Lines) -> Offsets:
    """Quotes in each line."""
    where = np.flatnonzero(np.frombuffer(lines.data, np.uint8) == ord('"'))
    return np.searchsorted(where, lines.ends) - np.searchsorted(where, lines.starts)


def _payload(lines: Lines, raw: list[bytes] | None, row: int, well: Offsets | None) -> bytes:
    index = int(well[row]) if well is not None else row
    return raw[index] if raw is not None else lines[index]


def _line(rejected: RejectedLine) -> int:
    return rejected.line
