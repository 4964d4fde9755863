"""JSON lines to rows."""

from __future__ import annotations

import io
import json
import math

import pytest

from ingestion.errors import FileError
from ingestion.json_rows import JsonRows
from ingestion.lines import LineFile
from schemas import avro

SCHEMA = avro.parse(
    '{"type":"record","name":"R","fields":['
    '{"name":"id","type":"string"},{"name":"n","type":"int"},'
    '{"name":"x","type":["null","double"],"default":null},'
    '{"name":"s","type":{"type":"enum","name":"S","symbols":["A","B"]}},'
    '{"name":"at","type":["null",{"type":"long","logicalType":"timestamp-millis"}],"default":null},'
    '{"name":"d","type":["null",{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}],"default":null},'
    '{"name":"ok","type":"boolean","default":true}]}'
)
GOOD = {"id": "a", "n": 1, "x": 2.5, "s": "A"}


def read(data: bytes, most: int = 1000) -> tuple[list[tuple[int, dict[str, object]]], list[tuple[int, str, bytes]]]:
    reader = JsonRows(LineFile(io.BytesIO(data), "f.jsonl"), SCHEMA, {}, "f.jsonl")
    good: list[tuple[int, dict[str, object]]] = []
    bad: list[tuple[int, str, bytes]] = []
    while (rows := reader.take(most)) is not None:
        good += zip(rows.lines.tolist(), rows.frame.to_pylist(), strict=True)
        bad += [(line.line, line.reason, line.payload) for line in rows.rejected]
    return good, bad


def test_good_lines() -> None:
    second = '{"id":"b","n":-2,"x":3,"s":"B","at":"2026-01-02T03:04:05+01:00","d":1.5,"ok":false,"other":[1]}'
    third = '{"id":"c","n":3,"s":"A","at":1767323045006,"d":"2.25"}'
    good, bad = read(b"\xef\xbb\xbf" + json.dumps(GOOD).encode() + b"\r\n\n" + second.encode() + b"\n" + third.encode())
    assert not bad
    assert [line for line, _ in good] == [1, 3, 4]
    rows = [row for _, row in good]
    assert rows[0] == GOOD | {"at": None, "d": None, "ok": True}
    assert [str(row["d"]) for row in rows[1:]] == ["1.50", "2.25"]
    assert [str(row["at"]) for row in rows[1:]] == ["2026-01-02 02:04:05+00:00", "2026-01-02 03:04:05.006000+00:00"]
    assert (rows[1]["x"], rows[1]["ok"]) == (3.0, False)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"id":"a","n":1,"x":', "bad_json"),
        (b"[1]", "bad_json"),
        (b"[" * 100_000, "bad_json"),
        (b'{"id":"\xff"}', "not_utf8"),
        (b'{"n":1,"x":1,"s":"A"}', "missing_column"),
        (b'{"id":null,"n":1,"s":"A"}', "missing_value"),
        (b'{"id":7,"n":1,"s":"A"}', "wrong_type"),
        (b'{"id":"a","n":"1","s":"A"}', "wrong_type"),
        (b'{"id":"a","n":1.5,"s":"A"}', "wrong_type"),
        (b'{"id":"a","n":true,"s":"A"}', "wrong_type"),
        (b'{"id":"a","n":3000000000,"s":"A"}', "wrong_type"),
        (b'{"id":"a","n":1,"x":1' + b"0" * 400 + b',"s":"A"}', "wrong_type"),
        (b'{"id":"a","n":1,"x":[],"s":"A"}', "wrong_type"),
        (b'{"id":"\\ud800","n":1,"s":"A"}', "wrong_type"),
        (b'{"id":"a","n":1,"s":"C"}', "bad_enum"),
        (b'{"id":"a","n":1,"s":"A","at":"noon"}', "wrong_type"),
        (b'{"id":"a","n":1,"s":"A","d":1.234}', "wrong_type"),
    ],
)
def test_bad_line_between_good_ones(line: bytes, reason: str) -> None:
    near = json.dumps(GOOD).encode()
    good, bad = read(near + b"\n" + line + b"\n" + near + b"\n")
    assert bad == [(2, reason, line)]
    assert [number for number, _ in good] == [1, 3]


def test_nan_is_left_to_the_worker() -> None:
    good, bad = read(b'{"id":"a","n":1,"x":NaN,"s":"A"}\n')
    assert not bad
    assert math.isnan(float(str(good[0][1]["x"])))


@pytest.mark.parametrize("data", [b"", '{"id":1}'.encode("utf-16")])
def test_files_that_cannot_be_read_at_all(data: bytes) -> None:
    with pytest.raises(FileError):
        read(data)
