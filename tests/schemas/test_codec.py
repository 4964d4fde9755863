"""One contract for every engine of the codec."""

from __future__ import annotations

import datetime
import json
import math
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from headrace.errors import SchemaNotFound, ServiceUnavailable
from schemas import AvroSchema, load, parse
from schemas.codec import Decoder, Encoder, frame
from schemas.engines import Engine, Fastavro, Malformed, Pyruhvro

ORDERS = load("orders/order_created.avsc")
ORDER = {
    "orderId": "o1",
    "customerId": "c1",
    "productId": "p1",
    "quantity": 3,
    "orderAmount": 9.5,
    "orderTimestamp": "2026-01-10T12:00:00Z",
    "status": "COMPLETED",
}


def schema(*fields: Any) -> AvroSchema:
    return parse(json.dumps({"type": "record", "name": "R", "fields": fields}))


def one(kind: Any, **more: Any) -> AvroSchema:
    return schema({"name": "f", "type": kind, **more})


def batch(of: AvroSchema, *rows: dict[str, Any]) -> pa.RecordBatch:
    columns = [pa.array([row[field.name] for row in rows], field.arrow) for field in of.fields]
    return pa.RecordBatch.from_arrays(columns, schema=of.arrow)


@pytest.fixture(params=[Pyruhvro(), Fastavro(), None], ids=["pyruhvro", "fastavro", "chosen"])
def engine(request: pytest.FixtureRequest) -> Engine | None:
    found: Engine | None = request.param
    return found


def decoder(of: AvroSchema, engine: Engine | None, **writers: AvroSchema) -> Decoder:
    """A decoder that knows schema 7 (the reader's own) and the writers given as `id9=...`."""
    known = {7: of} | {int(name.removeprefix("id")): writer for name, writer in writers.items()}

    def lookup(schema_id: int) -> AvroSchema:
        if schema_id not in known:
            raise SchemaNotFound(f"no schema {schema_id}")
        return known[schema_id]

    return Decoder(of, lookup, engine)


def encoded(of: AvroSchema, *rows: dict[str, Any], schema_id: int = 7) -> list[bytes | None]:
    found: list[bytes | None] = Encoder(Fastavro()).encode(of, schema_id, batch(of, *rows)).to_pylist()
    return found


def test_a_round_trip_keeps_every_row(engine: Engine | None) -> None:
    rows = batch(ORDERS, ORDER, {**ORDER, "orderId": "ö\0", "quantity": -(2**31), "status": "PENDING"})
    data = Encoder(engine).encode(ORDERS, 7, rows)
    assert data.to_pylist() == encoded(ORDERS, *rows.to_pylist())
    decoded = decoder(ORDERS, engine).decode(data.to_pylist())
    assert decoded.frame.equals(rows)
    assert (decoded.rows, decoded.failures) == (None, [])


@pytest.mark.parametrize("schema_id", [0, 1, 129, 32_895, 2**31 - 1, 2**32 - 1])
def test_any_schema_id_is_framed(engine: Engine | None, schema_id: int) -> None:
    (data,) = Encoder(engine).encode(ORDERS, schema_id, batch(ORDERS, ORDER)).to_pylist()
    assert data[:5] == b"\0" + schema_id.to_bytes(4, "big")
    assert data == frame(schema_id, data[5:])
    found = Decoder(ORDERS, lambda asked: ORDERS if asked == schema_id else pytest.fail("another id"), engine).decode(
        [data]
    )
    assert found.frame.to_pylist() == [ORDER]


def test_each_bad_record_is_named_and_its_neighbours_are_read(engine: Engine | None) -> None:
    (good,) = encoded(ORDERS, ORDER)
    assert good
    bad: dict[str, list[bytes | None]] = {
        "empty_value": [None, b""],
        "no_magic_byte": [b"\x01" + good[1:], b"\0\0\0", b"{}"],
        "unknown_schema_id": [frame(8, good[5:])],
        "undecodable": [good[:-1], good[:9], good[:5], good + b"\0", good[:-1] + b"\x08", frame(7, b"\xff" * 30)],
    }
    payloads: list[bytes | None] = [good]
    for values in bad.values():
        for value in values:
            payloads += [value, good]
    decoded = decoder(ORDERS, engine).decode(payloads)
    assert [failure.reason for failure in decoded.failures] == [name for name, values in bad.items() for _ in values]
    assert [failure.index for failure in decoded.failures] == list(range(1, len(payloads), 2))
    assert all(failure.detail for failure in decoded.failures)
    assert decoded.rows is not None
    assert decoded.rows.tolist() == list(range(0, len(payloads), 2))
    assert decoded.frame.to_pylist() == [ORDER] * len(decoded.rows)


@pytest.mark.parametrize(
    ("kind", "datum", "says"),
    [
        ("string", b"\x0aabc", "truncated"),
        ("string", b"\x04\xff\xfe", "utf-8"),
        ("string", b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", ""),
        ("int", b"\x80\x80\x80\x80\x10", ""),
        ("int", b"\x80\x00", ""),
        ("boolean", b"\x02", ""),
        ("double", b"\0\0\0", ""),
        ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, b"\x04", ""),
        ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, b"\x01", ""),
        (["null", "int"], b"\x04\x02", ""),
        (["null", "int"], b"\x01\x02", ""),
        ({"type": "int", "logicalType": "date"}, b"\x80\x80\x80\x80\x10", ""),
        ("long", b"\xff" * 12, ""),
    ],
)
def test_what_no_writer_makes_is_undecodable(engine: Engine | None, kind: Any, datum: bytes, says: str) -> None:
    of = one(kind)
    (failure,) = decoder(of, engine).decode([frame(7, datum)]).failures
    assert failure.reason == "undecodable"
    assert says in failure.detail


def test_no_payloads_are_no_rows(engine: Engine | None) -> None:
    decoded = decoder(ORDERS, engine).decode([])
    assert (decoded.frame.num_rows, decoded.frame.schema, decoded.failures) == (0, ORDERS.arrow, [])
    all_bad = decoder(ORDERS, engine).decode([None, b"x"])
    assert (all_bad.frame.num_rows, len(all_bad.failures)) == (0, 2)


def test_a_registry_that_does_not_answer_is_not_a_bad_record(engine: Engine | None) -> None:
    def lookup(schema_id: int) -> AvroSchema:
        raise ServiceUnavailable("no registry")

    with pytest.raises(ServiceUnavailable):
        Decoder(ORDERS, lookup, engine).decode(encoded(ORDERS, ORDER))


def test_one_bad_record_among_many_is_found(engine: Engine | None) -> None:
    payloads = encoded(ORDERS, *[{**ORDER, "orderId": f"o{index}"} for index in range(1_000)])
    payloads[617] = (payloads[617] or b"")[:-3]
    decoded = decoder(ORDERS, engine).decode(payloads)
    assert [failure.index for failure in decoded.failures] == [617]
    assert decoded.rows is not None
    assert np.array_equal(decoded.rows, np.delete(np.arange(1_000), 617))
    assert decoded.frame.column("orderId").to_pylist() == [f"o{index}" for index in decoded.rows]


def test_records_of_several_writers_keep_their_order(engine: Engine | None) -> None:
    old = schema({"name": "id", "type": "string"}, {"name": "n", "type": "int"})
    new = schema(
        {"name": "id", "type": "string"},
        {"name": "n", "type": "long"},
        {"name": "note", "type": ["null", "string"], "default": None},
        {"name": "region", "type": "string", "default": "EU"},
    )
    first = encoded(old, {"id": "a", "n": 1}, {"id": "c", "n": 3}, schema_id=9)
    second = encoded(new, {"id": "b", "n": 2**40, "note": "x", "region": "US"})
    decoded = decoder(new, engine, id9=old).decode([first[0], second[0], b"", first[1]])
    assert decoded.rows is not None
    assert decoded.rows.tolist() == [0, 1, 3]
    assert decoded.frame.to_pylist() == [
        {"id": "a", "n": 1, "note": None, "region": "EU"},
        {"id": "b", "n": 2**40, "note": "x", "region": "US"},
        {"id": "c", "n": 3, "note": None, "region": "EU"},
    ]
    assert decoder(new, engine, id9=old).decode(first).rows is None


ENUM_AB = {"type": "enum", "name": "E", "symbols": ["A", "B"]}
ENUM_A = {"type": "enum", "name": "E", "symbols": ["A"]}
ENUM_DEFAULT = {**ENUM_A, "default": "A"}


@pytest.mark.parametrize(
    ("writer", "value", "reader", "read"),
    [
        ("int", 5, "long", 5),
        ("int", 5, "float", 5.0),
        ("int", 5, "double", 5.0),
        ("long", 2**53, "double", 2.0**53),
        ("float", 0.5, "double", 0.5),
        ("string", "é", "bytes", "é".encode()),
        ("bytes", "é".encode(), "string", "é"),
        ("int", 5, ["null", "long"], 5),
        (["null", "int"], 5, "int", 5),
        (["int", "null"], None, ["null", "int"], None),
        (ENUM_A, "A", ENUM_AB, "A"),
        (ENUM_AB, "B", ENUM_DEFAULT, "A"),
        (ENUM_AB, "A", ENUM_A, "A"),
    ],
)
def test_an_older_type_is_promoted(writer: Any, value: Any, reader: Any, read: Any) -> None:
    data = encoded(one(writer), {"f": value}, schema_id=9)
    decoded = decoder(one(reader), None, id9=one(writer)).decode(data)
    assert decoded.frame.to_pylist() == [{"f": read}]
    assert decoded.frame.schema.field("f").type == one(reader).arrow.field("f").type


@pytest.mark.parametrize(
    ("writer", "value", "reader"),
    [
        ("string", "x", "int"),
        ("long", 5, "int"),
        ("double", 5.0, "float"),
        ({"type": "long", "logicalType": "timestamp-millis"}, 5, {"type": "long", "logicalType": "timestamp-micros"}),
        (["null", "int"], None, "int"),
        (ENUM_AB, "B", ENUM_A),
    ],
)
def test_what_cannot_be_resolved_is_incompatible(writer: Any, value: Any, reader: Any) -> None:
    data = encoded(one(writer), {"f": value}, schema_id=9)
    (failure,) = decoder(one(reader), None, id9=one(writer)).decode(data).failures
    assert failure.reason == "incompatible_schema"
    assert "schema id 9" in failure.detail


@pytest.mark.parametrize("reader", ["string", ["null", "string"]])
def test_bytes_that_are_no_text_are_undecodable_as_one(reader: Any) -> None:
    data = encoded(one("bytes"), {"f": b"a"}, {"f": b"\xff"}, schema_id=9)
    decoded = decoder(one(reader), None, id9=one("bytes")).decode(data)
    assert decoded.frame.to_pylist() == [{"f": "a"}]
    assert [(failure.index, failure.reason) for failure in decoded.failures] == [(1, "undecodable")]


def test_a_field_without_default_cannot_be_made_up() -> None:
    old, new = one("int"), schema({"name": "f", "type": "int"}, {"name": "g", "type": "int"})
    (failure,) = decoder(new, None, id9=old).decode(encoded(old, {"f": 1}, schema_id=9)).failures
    assert failure.reason == "incompatible_schema"
    assert '"g"' in failure.detail


@pytest.mark.parametrize(
    ("kind", "default", "value"),
    [
        ({"type": "bytes", "logicalType": "decimal", "precision": 5, "scale": 2}, "\u00ff", Decimal("-0.01")),
        ("bytes", "\u00ff\u0000", b"\xff\0"),
        ({"type": "int", "logicalType": "date"}, 1, datetime.date(1970, 1, 2)),
        (
            {"type": "long", "logicalType": "timestamp-millis"},
            1,
            datetime.datetime(1970, 1, 1, 0, 0, 0, 1000, datetime.UTC),
        ),
        ("boolean", False, False),
        (["string", "null"], "x", "x"),
    ],
)
def test_a_default_has_the_fields_type(kind: Any, default: Any, value: Any) -> None:
    old = one("int")
    new = schema({"name": "f", "type": "int"}, {"name": "g", "type": kind, "default": default})
    decoded = decoder(new, None, id9=old).decode(encoded(old, {"f": 1}, schema_id=9))
    assert decoded.frame.to_pylist() == [{"f": 1, "g": value}]


def test_a_renamed_field_is_found_by_its_alias() -> None:
    old, new = one("int"), schema({"name": "g", "type": "int", "aliases": ["f"]})
    assert decoder(new, None, id9=old).decode(encoded(old, {"f": 1}, schema_id=9)).frame.to_pylist() == [{"g": 1}]


def test_a_null_where_the_schema_has_none_is_never_written(engine: Engine | None) -> None:
    rows = pa.RecordBatch.from_arrays([pa.array(["a", None])], schema=pa.schema([("f", pa.string())]))
    with pytest.raises(ValueError, match="null values"):
        Encoder(engine).encode(one("string"), 7, rows)


def test_a_symbol_that_the_schema_does_not_have_is_never_written(engine: Engine | None) -> None:
    with pytest.raises(ValueError):
        Encoder(engine).encode(one(ENUM_AB), 7, pa.record_batch([pa.array(["C"])], names=["f"]))


INT32, INT64 = st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63), 2**63 - 1)
VALUES: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "string": ("string", st.text(st.characters(codec="utf-8"))),
    "int": ("int", INT32),
    "long": ("long", INT64),
    "float": ("float", st.floats(width=32, allow_nan=False)),
    "double": ("double", st.floats(allow_nan=False)),
    "boolean": ("boolean", st.booleans()),
    "bytes": ("bytes", st.binary()),
    "millis": ({"type": "long", "logicalType": "timestamp-millis"}, INT64),
    "micros": ({"type": "long", "logicalType": "timestamp-micros"}, INT64),
    "date": ({"type": "int", "logicalType": "date"}, INT32),
    "decimal": (
        {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 3},
        st.decimals(-(10**7) + 1, 10**7 - 1, places=3),
    ),
}


@st.composite
def records(draw: st.DrawFn, without: frozenset[str] = frozenset()) -> tuple[AvroSchema, pa.RecordBatch]:
    """A schema of the supported types and some records of it."""
    fields, strategies = [], []
    kind: Any
    values: st.SearchStrategy[Any]
    for index in range(draw(st.integers(1, 5))):
        name = draw(st.sampled_from(sorted({*VALUES, "enum"} - without)))
        if name == "enum":
            symbols = [f"S{n}" for n in range(draw(st.sampled_from([1, 2, 64, 65, 200])))]
            kind, values = {"type": "enum", "name": f"E{index}", "symbols": symbols}, st.sampled_from(symbols)
        else:
            kind, values = VALUES[name]
        union = draw(st.sampled_from([None, 0, 1]))
        if union is not None:
            kind, values = ["null", kind] if union == 0 else [kind, "null"], st.none() | values
        fields.append({"name": f"f{index}", "type": kind})
        strategies.append(values)
    of = schema(*fields)
    rows = draw(st.lists(st.tuples(*strategies), max_size=8))
    columns = []
    for index, field in enumerate(of.fields):
        column = [row[index] for row in rows]
        if field.kind in {"timestamp-millis", "timestamp-micros"}:
            columns.append(pa.array(column, pa.int64()).view(field.arrow))
        elif field.kind == "date":
            columns.append(pa.array(column, pa.int32()).view(field.arrow))
        else:
            columns.append(pa.array(column, field.arrow))
    return of, pa.RecordBatch.from_arrays(columns, schema=of.arrow)


@settings(max_examples=150, deadline=None)
@given(records())
def test_the_engine_chosen_for_a_schema_reads_what_fastavro_writes(
    given_records: tuple[AvroSchema, pa.RecordBatch],
) -> None:
    of, rows = given_records
    data = Encoder(Fastavro()).encode(of, 7, rows)
    assert Encoder().encode(of, 7, rows).equals(data)
    for engine in (None, Fastavro()):
        decoded = decoder(of, engine).decode(data.to_pylist())
        assert decoded.failures == []
        assert decoded.frame.equals(rows)


@settings(max_examples=150, deadline=None)
@given(records(frozenset({"bytes", "decimal"})), st.data())
def test_both_engines_refuse_the_same_damage(
    given_records: tuple[AvroSchema, pa.RecordBatch], data: st.DataObject
) -> None:
    of, rows = given_records
    assume(rows.num_rows)
    payloads = Encoder().encode(of, 7, rows).to_pylist()
    index = data.draw(st.integers(0, len(payloads) - 1))
    damaged = bytearray(payloads[index])
    for _ in range(data.draw(st.integers(1, 3))):
        if len(damaged) > 5:
            damaged[data.draw(st.integers(5, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    damaged = damaged[: data.draw(st.integers(5, len(damaged)))] + data.draw(st.binary(max_size=2))
    payloads[index] = bytes(damaged)
    fast, slow = (decoder(of, engine).decode(payloads) for engine in (Pyruhvro(), Fastavro()))
    assert [(f.index, f.reason) for f in fast.failures] == [(f.index, f.reason) for f in slow.failures]
    for left, right in zip(fast.frame.columns, slow.frame.columns, strict=True):
        if pa.types.is_floating(left.type):
            pairs = zip(left.to_pylist(), right.to_pylist(), strict=True)
            assert all(
                a == b or (a is not None and b is not None and math.isnan(a) and math.isnan(b)) for a, b in pairs
            )
        else:
            assert left.equals(right)


def test_pyruhvro_says_what_it_does_not_serve() -> None:
    assert Pyruhvro.serves(ORDERS)
    assert not Pyruhvro.serves(one("bytes"))
    with pytest.raises(Malformed, match="trailing"):
        Pyruhvro().read([(encoded(ORDERS, ORDER)[0] or b"") + b"x"], ORDERS, b"\0\0\0\0\x07")
