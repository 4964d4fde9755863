"""CSV to rows: line numbers and bytes are exact, one bad line costs no other, and no cut changes the result."""

from __future__ import annotations

import io
import random

import pytest

from ingestion.batch import LARGEST_ROW
from ingestion.csv_rows import CsvRows
from ingestion.errors import FileError
from ingestion.lines import LineFile
from schemas import avro

SCHEMA = avro.parse(
    '{"type":"record","name":"R","fields":['
    '{"name":"id","type":"string"},{"name":"n","type":"int"},'
    '{"name":"x","type":["null","double"],"default":null},'
    '{"name":"s","type":{"type":"enum","name":"S","symbols":["A","B"]}}]}'
)


def read(
    data: bytes, most: int = 1000, **names: str
) -> tuple[list[tuple[int, dict[str, object]]], list[tuple[int, str, bytes]]]:
    reader = CsvRows(LineFile(io.BytesIO(data), "f.csv"), SCHEMA, names, "f.csv")
    good: list[tuple[int, dict[str, object]]] = []
    bad: list[tuple[int, str, bytes]] = []
    last, at = False, 1
    while (rows := reader.take(most)) is not None:
        assert not last
        assert rows.position == at
        last, at = rows.last, rows.next_position
        good += zip(rows.lines.tolist(), rows.frame.to_pylist(), strict=True)
        bad += [(line.line, line.reason, line.payload) for line in rows.rejected]
    assert last or data.count(b"\n") <= 1
    return good, bad


def test_good_lines() -> None:
    good, bad = read(b"id,n,x,s\na,1,2.5,A\nb,-2,,B\n")
    assert good == [(2, {"id": "a", "n": 1, "x": 2.5, "s": "A"}), (3, {"id": "b", "n": -2, "x": None, "s": "B"})]
    assert not bad


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"a,1,2.5", "missing_column"),
        (b"a,1,2.5,A,more", "extra_column"),
        (b",1,2.5,A", "missing_value"),
        (b"a,,2.5,A", "missing_value"),
        (b"a,1,2.5,", "missing_value"),
        (b"a,one,2.5,A", "wrong_type"),
        (b"a,12.7,2.5,A", "wrong_type"),  # DuckDB would read 13
        (b"a,1e3,2.5,A", "wrong_type"),
        (b"a,3000000000,2.5,A", "wrong_type"),
        (b"a,1,much,A", "wrong_type"),
        (b'a,1,"2,5",A', "wrong_type"),
        (b"a,1,2.5,C", "bad_enum"),
        (b"a,1,2.5,a", "bad_enum"),
        (b"a\xff,1,2.5,A", "not_utf8"),
        (b'"a,1,2.5,A', "unclosed_quote"),
        (b"a,1\rb,2,2.5,A", "bad_csv"),
        (b"a" * LARGEST_ROW + b",1,2.5,A", "too_large"),
    ],
)
def test_bad_line_between_good_ones(line: bytes, reason: str) -> None:
    good, bad = read(b"id,n,x,s\ngood,1,1,A\n" + line + b"\ngood,2,1,A\ngood,3,1,A\n")
    assert bad == [(3, reason, line)]
    assert [(number, row["n"]) for number, row in good] == [(2, 1), (4, 2), (5, 3)]


@pytest.mark.parametrize("text", ["NaN", "nan", "-inf", "1e300", " 7 ", ".5"])
def test_a_float_is_left_to_the_worker(text: str) -> None:
    good, bad = read(f"id,n,x,s\na,1,{text},A\nb,1,bad,A\n".encode())
    assert len(good) == 1
    assert [reason for _, reason, _ in bad] == ["wrong_type"]


def test_quotes_and_line_ends_in_values() -> None:
    data = b'id,n,x,s\r\n"a ""b"",\r\nc",1,,A\r\n"",2,,"B"\r\n\r\n5" pipe,3,,A\r\nlast,4,,B'
    good, bad = read(data)
    assert [(number, row["id"], row["n"]) for number, row in good] == [
        (2, 'a "b",\r\nc', 1),
        (4, "", 2),
        (6, '5" pipe', 3),
        (7, "last", 4),
    ]
    assert not bad


def test_a_quote_that_is_never_closed_costs_one_line() -> None:
    lines = [b"x,1,,A", b'"open,2,,A', *(b"y,%d,,A" % n for n in range(3, 3000)), b'"z",1,,A']
    good, bad = read(b"id,n,x,s\n" + b"\n".join(lines) + b"\n")
    assert [(line, reason) for line, reason, _ in bad] == [(3, "unclosed_quote")]
    assert len(good) == len(lines) - 1


def test_columns_in_other_order_renamed_and_left_out() -> None:
    good, bad = read(b"\xef\xbb\xbfs,key,other,n\nA,k,?,1\n", id="key")
    assert good == [(2, {"id": "k", "n": 1, "x": None, "s": "A"})]
    assert not bad


def test_no_cut_changes_rows_or_rejects(seed: int) -> None:
    rng = random.Random(seed)
    pieces = [
        b"a,1,1,A",
        b"b,2,,B",
        b"c,x,1,A",
        b"d,1",
        b'"e\nf",3,1,A',
        b"",
        b'"open,1,1,A',
        b"\xff,1,1,A",
        b'g"h,4,1,B',
        b'x"y,"z\nw",1,A',
    ]
    data = b"id,n,x,s\n" + b"\n".join(rng.choice(pieces) for _ in range(400)) + b"\n"
    whole = read(data, 10_000)
    assert whole[0]
    assert whole[1]
    for most in (1, 2, 3, 7, 50, 399):
        assert read(data, most) == whole


def test_a_line_too_many_does_not_make_up_for_one_too_few() -> None:
    """A value over two lines and a carriage return in a third: as many rows for the parser as there are lines."""
    data = b'id,n,x,s\na,1,1,A\nx"y,"2\n",5,A"\np,3,1,A\rq,4,2,A\nz,5,1,A\n'
    good, bad = read(data)
    assert [(number, row["id"]) for number, row in good] == [(2, "a"), (6, "z")]
    assert [(line, reason) for line, reason, _ in bad] == [(3, "bad_enum"), (5, "bad_csv")]
    assert read(data, 1) == (good, bad)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"id,n,x\na,1,1\n", 'no column "s"'),
        (b"id,n,n,x,s\n", "twice"),
        ("id,n,x,s\n".encode("utf-16"), "UTF-8"),
        (b"\xff\xfe\xff\n", "UTF-8"),
        (b"id,n,x,s\n" + b"x" * (17 << 20), "not a file of lines"),
    ],
)
def test_files_that_cannot_be_read_at_all(data: bytes, message: str) -> None:
    with pytest.raises(FileError, match=message) as caught:
        read(data)
    assert "\n" not in str(caught.value)


def test_a_header_alone_has_no_rows() -> None:
    assert read(b"id,n,x,s\n") == ([], [])
