"""One contract for both formats, and what is JSON's own: strict values, times, defaults, what makes a bad record."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import AvroSchema, formats, parse
from schemas.codec import Decoded
from schemas.formats import Format

FIELDS: list[dict[str, Any]] = [
    {"name": "s", "type": "string"},
    {"name": "i", "type": "int"},
    {"name": "l", "type": "long"},
    {"name": "f", "type": "float"},
    {"name": "d", "type": ["null", "double"]},
    {"name": "b", "type": "boolean"},
    {"name": "e", "type": {"type": "enum", "name": "E", "symbols": ["A", "B"]}},
    {"name": "ms", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "us", "type": ["null", {"type": "long", "logicalType": "timestamp-micros"}]},
    {"name": "day", "type": {"type": "int", "logicalType": "date"}},
    {"name": "money", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
]
NOON = datetime(2026, 1, 10, 12, tzinfo=UTC)
ROW: dict[str, Any] = {
    "s": 'a"\\\n\0ö😀',
    "i": -(2**31),
    "l": 2**63 - 1,
    "f": 0.5,
    "d": None,
    "b": True,
    "e": "B",
    "ms": NOON,
    "us": NOON.replace(microsecond=123456),
    "day": date(2026, 1, 10),
    "money": Decimal("-12.30"),
}
PLAIN = {**ROW, "s": "x", "ms": "2026-01-10T13:00:00+01:00", "us": None, "day": "2026-01-10", "money": "-12.30"}


def schema(*fields: dict[str, Any]) -> AvroSchema:
    return parse(json.dumps({"type": "record", "name": "R", "fields": fields or FIELDS}))


SCHEMA = schema()


def batch(*rows: dict[str, Any], of: AvroSchema = SCHEMA) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [pa.array([r[f.name] for r in rows], f.arrow) for f in of.fields], schema=of.arrow
    )


def read(payloads: list[bytes | None], form: Format = "json", of: AvroSchema = SCHEMA) -> Decoded:
    return formats.decoder(form, of, lambda _: of).decode(payloads)


def payload(**changes: Any) -> bytes:
    return json.dumps({**PLAIN, **changes}).encode()


@pytest.fixture(params=["avro", "json"])
def form(request: pytest.FixtureRequest) -> Format:
    found: Format = request.param
    return found


def test_a_round_trip_keeps_every_row(form: Format) -> None:
    rows = batch(ROW, {**ROW, "d": -0.0, "e": "A", "us": None}, {**ROW, "d": 1e300, "f": 3.0})
    decoded = read(formats.encoder(form).encode(SCHEMA, 7, rows).to_pylist(), form)
    assert decoded.frame.equals(rows)
    assert (decoded.rows, decoded.failures) == (None, [])


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_what_is_no_number_is_read_as_such(form: Format, value: str) -> None:
    of = schema({"name": "d", "type": "double"})
    decoded = read(formats.encoder(form).encode(of, 7, batch({"d": float(value)}, of=of)).to_pylist(), form, of)
    assert [str(v) for v in decoded.frame.column(0).to_pylist()] == [value]


def test_bad_records_are_named_and_their_neighbours_are_read(form: Format) -> None:
    good = formats.encoder(form).encode(SCHEMA, 7, batch(ROW)).to_pylist()[0]
    decoded = read([good, None, good, b"", good, good[:-1], good], form)
    assert [(f.index, f.reason) for f in decoded.failures] == [
        (1, "empty_value"),
        (3, "empty_value"),
        (5, "undecodable" if form == "avro" else "bad_json"),
    ]
    assert all(failure.detail for failure in decoded.failures)
    assert decoded.rows is not None and decoded.rows.tolist() == [0, 2, 4, 6]
    assert decoded.frame.to_pylist() == [ROW] * 4


def test_no_payloads_are_no_rows(form: Format) -> None:
    decoded = read([], form)
    assert (decoded.frame.num_rows, decoded.frame.schema, decoded.failures) == (0, SCHEMA.arrow, [])
    assert read([None, b""], form).frame.num_rows == 0


def test_a_null_where_none_may_be_is_not_written(form: Format) -> None:
    column = pa.array([None], pa.string())
    nulls = pa.RecordBatch.from_arrays([column], schema=pa.schema([pa.field("s", pa.string())]))
    with pytest.raises(ValueError, match='"s" has'):
        formats.encoder(form).encode(schema({"name": "s", "type": "string"}), 7, nulls)


@pytest.mark.parametrize(
    ("value", "reason", "says"),
    [
        (b"{", "bad_json", "Expecting"),
        (b"[]", "bad_json", "a list, not an object"),
        (b"5", "bad_json", "an? int|a int, not an object"),
        (b'{"s":1', "bad_json", "delimiter"),
        (payload() + payload(), "bad_json", "Extra data"),
        (payload() + b"\n" + payload(), "bad_json", "Extra data"),
        (payload()[:-1] + b',"s":"again"}', "bad_json", "twice"),
        (payload().replace(b'"x"', b'"\xff"'), "not_utf8", "byte 0xff"),
        (payload(s="x").decode().encode("utf-16"), "not_utf8", "byte"),
        (payload().replace(b'"x"', b'"\\ud83d"'), "wrong_type", "s: "),
        (payload(s=5), "wrong_type", "s: 5 is not of type string"),
        (payload(s=None), "missing_value", "s is null"),
        (payload(i=12.7), "wrong_type", "i: 12.7 is not of type int"),
        (payload(i=12.0), "wrong_type", "i: 12.0"),
        (payload(i="12"), "wrong_type", 'i: "12"'),
        (payload(i=True), "wrong_type", "i: true"),
        (payload(i=2**31), "wrong_type", "i: 2147483648"),
        (payload(l=2**63), "wrong_type", "l: "),
        (payload(f="1.5"), "wrong_type", 'f: "1.5"'),
        (payload(b=1), "wrong_type", "b: 1"),
        (payload(e="C"), "bad_enum", 'e: "C" is none of A, B'),
        (payload(ms="2026-01-10T12:00:00"), "wrong_type", "ms: "),
        (payload(ms="2026-01-10T12:00:00.1234Z"), "wrong_type", "ms: "),
        (payload(ms=1.5), "wrong_type", "ms: 1.5"),
        (payload(day="2026-02-30"), "wrong_type", "day: "),
        (payload(money="1.234"), "wrong_type", "money: "),
        (payload(money="12345678.00"), "wrong_type", "money: "),
        (json.dumps({k: v for k, v in PLAIN.items() if k != "i"}).encode(), "missing_column", "i is not there"),
        (b'{"s":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "bad_json", ""),
    ],
)
def test_what_is_not_of_its_type_is_refused_with_the_reason(value: bytes, reason: str, says: str) -> None:
    decoded = read([payload(), value, payload()])
    assert [(f.index, f.reason) for f in decoded.failures] == [(1, reason)]
    assert re.search(says, decoded.failures[0].detail), decoded.failures[0].detail
    assert decoded.frame.num_rows == 2


def test_times_decimals_and_numbers_are_read_in_both_ways() -> None:
    texts = payload(us="2026-01-10T12:00:00.123456Z", money=-12.3)
    numbers = payload(
        ms=int(NOON.timestamp()) * 1000, us=int(NOON.timestamp()) * 1_000_000 + 123456, day=20463, money="-12.3"
    )
    mixed = payload(ms=int(NOON.timestamp()) * 1000, us="2026-01-10T12:00:00.123456Z")
    decoded = read([texts, numbers, mixed, numbers, texts])
    assert not decoded.failures
    assert decoded.frame.to_pylist() == [{**ROW, "s": "x"}] * 5


def test_other_fields_and_spaces_are_left_out() -> None:
    pretty = b" \r\n" + json.dumps({**PLAIN, "other": {"deep": [1, {"x": None}]}}, indent=2).encode() + b"\n"
    decoded = read([pretty, payload(), pretty])
    assert (
        not decoded.failures and decoded.frame.to_pylist() == [{**ROW, "s": "x", "us": None, "ms": NOON, "d": None}] * 3
    )


def test_a_missing_field_takes_its_default_and_a_null_one_does_not() -> None:
    of = schema(
        {"name": "k", "type": "string"},
        {"name": "n", "type": "int", "default": 7},
        {"name": "t", "type": ["string", "null"], "default": "x"},
        {"name": "o", "type": ["null", "string"], "default": None},
    )
    decoded = read([b'{"k":"a"}', b'{"k":"b","n":1,"t":null,"o":"z"}', b'{"k":"c","n":null}'], of=of)
    assert decoded.frame.to_pylist() == [
        {"k": "a", "n": 7, "t": "x", "o": None},
        {"k": "b", "n": 1, "t": None, "o": "z"},
    ]
    assert [(f.index, f.reason) for f in decoded.failures] == [(2, "missing_value")]


_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.lists(st.integers()),
    st.dictionaries(st.text(), st.none()),
)


@given(st.lists(st.one_of(st.binary(), st.dictionaries(st.sampled_from("sil"), _VALUES)), max_size=30))
def test_each_record_is_judged_by_itself(given_: list[bytes | dict[str, Any]]) -> None:
    of = schema(FIELDS[0], FIELDS[1], FIELDS[2])
    payloads: list[bytes | None] = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in given_]
    together = read(payloads, of=of)
    alone = [read([one], of=of) for one in payloads]
    rows = range(len(payloads)) if together.rows is None else together.rows.tolist()
    assert list(rows) == [index for index, one in enumerate(alone) if not one.failures]
    assert together.frame.to_pylist() == [row for one in alone for row in one.frame.to_pylist()]
    told = [(f.index, f.reason) for f in together.failures]
    assert told == [(index, f.reason) for index, one in enumerate(alone) for f in one.failures]
