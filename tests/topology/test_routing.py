"""Every record gets one fate, for one reason, in one order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.topology.declare import (
    MONEY,
    NOON_MICROS,
    ORDERS,
    PER_CUSTOMER,
    PER_PRODUCT,
    Bench,
    orders,
    program,
    schema_file,
    table,
    topic,
)
from topology import Aggregate, EventTime, Topic, Tumbling

HOUR = 3_600_000_000
NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"orderTimestamp": "2026-01-10T14:00:00+02:00"}, None),
        ({"orderTimestamp": "yesterday"}, "bad_time"),
        ({"orderTimestamp": ""}, "bad_time"),
        ({"orderTimestamp": "infinity"}, "bad_time"),
        ({"orderTimestamp": "2026-01-10T12:00:00"}, "no_time_zone"),
        ({"orderTimestamp": "2026-01-10"}, "no_time_zone"),
        ({"orderTimestamp": "2025-12-31T23:59:59Z"}, "before_start"),
        ({"orderTimestamp": "2026-01-01T00:00:00Z"}, None),
        ({"orderTimestamp": "2026-01-01T00:00:00+01:00"}, "before_start"),
        ({"orderTimestamp": "2026-01-10T13:00:00Z"}, None),
        ({"orderTimestamp": "2026-01-10T13:00:00.000001Z"}, "too_far_ahead"),
        ({"orderTimestamp": "2099-01-01T00:00:00Z"}, "too_far_ahead"),
        ({"orderAmount": NAN}, "not_finite:orderAmount"),
        ({"orderAmount": INFINITY}, "not_finite:orderAmount"),
        ({"orderAmount": -1.0}, "require:positive_amount"),
        ({"orderAmount": 0.0}, "require:positive_amount"),
        ({"orderAmount": 1e17}, "expression:total"),
        ({"customerId": "a\0b"}, "nul_in_key:customerId"),
        ({"customerId": "x" * 2001}, "key_too_long:customerId"),
        ({"customerId": "x" * 2000}, None),
        ({"customerId": ""}, None),
        ({"orderAmount": -1.0, "orderTimestamp": "soon"}, "bad_time"),
        ({"orderAmount": NAN, "orderTimestamp": "2099-01-01T00:00:00Z"}, "too_far_ahead"),
        ({"orderAmount": 1e17, "customerId": "\0"}, "nul_in_key:customerId"),
    ],
)
def test_the_first_reason_that_holds_is_the_records(changes: dict[str, Any], reason: str | None) -> None:
    bench = Bench(program(PER_CUSTOMER), orders({}, changes, {}))
    assert bench.reasons() == [None, reason, None]
    assert bench.counts()["t0_applied"] == (3 if reason is None else 2)


def test_the_counts_of_a_table_add_up_to_its_records() -> None:
    rows = orders(
        {}, {"status": "FAILED"}, {"orderAmount": -1.0}, {"customerId": "\0"}, {"productId": "\0", "status": "FAILED"}
    )
    counts = Bench(program(PER_CUSTOMER, PER_PRODUCT), rows).counts()
    assert counts["records"] == 5
    assert counts["topic_bad"] == 1
    assert [counts[f"t0_{fate}"] for fate in ("dead", "filtered", "applied")] == [2, 0, 3]
    assert [counts[f"t1_{fate}"] for fate in ("dead", "filtered", "applied")] == [2, 1, 2]


def test_only_valid_records_move_the_watermark_and_only_applied_ones_the_tables_times() -> None:
    rows = orders(
        {"orderTimestamp": "2026-01-10T11:00:00Z"},
        {"orderTimestamp": "2026-01-10T12:30:00Z", "status": "FAILED"},
        {"orderTimestamp": "2026-01-10T12:40:00Z", "orderAmount": -1.0},
        {"orderTimestamp": "2026-01-10T23:00:00Z"},
    )
    counts = Bench(program(PER_PRODUCT), rows).counts()
    assert counts["max_valid_event"] == NOON_MICROS + HOUR // 2
    assert counts["t0_min_event"] == counts["t0_max_event"] == NOON_MICROS - HOUR


def test_dead_letters_are_named_by_their_index() -> None:
    bench = Bench(program(PER_CUSTOMER, PER_PRODUCT), orders({}, {"orderAmount": -1.0}, {"productId": "\0"}))
    assert bench.duck.sql(bench.program.reasons_sql).fetchall() == [
        (1, "require:positive_amount", None, None),
        (2, None, None, "nul_in_key:productId"),
    ]


def test_a_look_at_the_keys_chooses_the_sql_and_both_say_the_same() -> None:
    of = program(PER_CUSTOMER, PER_PRODUCT)
    good, bad = Bench(of, orders({}, {"orderAmount": -1.0})), Bench(of, orders({}, {"customerId": "\0"}))
    assert of.route(good.frame) == of.fitting_route_sql
    assert of.route(bad.frame) == of.route_sql
    assert of.route(bad.frame.slice(0, 1)) == of.fitting_route_sql
    assert of.route(bad.frame.slice(1, 1)) == of.route_sql
    before = good.duck.sql("select * from routed").fetchall()
    good.duck.execute(of.fitting_route_sql)
    assert good.duck.sql("select * from routed").fetchall() == before


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("2026-01-10T13:00:00", NOON_MICROS),  # Amsterdam is an hour ahead in winter
        ("2026-01-10 13:00:00.5", NOON_MICROS + 500_000),
        ("2026-01-10T12:00:00Z", NOON_MICROS),
        ("2026-01-10T17:30:00+05:30", NOON_MICROS),
        ("2026-01-10T17:30:00+0530", NOON_MICROS),
        ("2026-01-10T10:00:00-02", NOON_MICROS),
        ("2026-07-10T12:00:00", None),
        ("2026-01-10T12:00:00 Europe/Paris", None),
        ("epoch", None),
    ],
)
def test_a_text_without_zone_is_in_the_declared_one(text: str, micros: int | None) -> None:
    of = topic(event_time=EventTime("orderTimestamp", "iso8601", "Europe/Amsterdam"))
    bench = Bench(program(table(of)), orders({"orderTimestamp": text}))
    ((found, reason),) = bench.duck.sql("select event_time, topic_reason from routed").fetchall()
    if micros is not None:
        assert (found, reason) == (micros, None)
    else:
        assert reason in ("bad_time", "too_far_ahead")


@pytest.mark.parametrize(
    ("kind", "unit", "value", "micros"),
    [
        ("long", "ms", 1_500, 1_500_000),
        ("long", "us", -1, -1),
        ("int", "s", 2, 2_000_000),
        ("long", "s", 2**62, None),
        ({"type": "long", "logicalType": "timestamp-millis"}, "ms", 1_500, 1_500_000),
        ({"type": "long", "logicalType": "timestamp-micros"}, "us", 7, 7),
    ],
)
def test_numbers_have_the_declared_unit(tmp_path: Path, kind: Any, unit: Any, value: int, micros: int | None) -> None:
    path = schema_file(tmp_path, {"name": "id", "type": "string"}, {"name": "at", "type": kind})
    of = Topic("messages", schema=path, key="id", event_time=EventTime("at", unit))
    bench = Bench(program(Aggregate("t", of, by=["id"], measures={"n": "count(*)"})), [{"id": "a", "at": value}])
    ((found, reason),) = bench.duck.sql("select event_time, topic_reason from routed").fetchall()
    assert (found, reason) == (micros, None if micros is not None else "bad_time")


@pytest.mark.parametrize(
    ("size", "at", "start"),
    [
        ("7 minutes", "2026-01-10T10:00:00Z", "2026-01-10T09:59:00+00:00"),  # aligned to 1970, not to a Monday of 2000
        ("15 minutes", "2026-01-10T10:14:59.999999Z", "2026-01-10T10:00:00+00:00"),
        ("15 minutes", "2026-01-10T10:15:00Z", "2026-01-10T10:15:00+00:00"),
        ("1 day", "1969-12-31T23:59:59Z", "1969-12-31T00:00:00+00:00"),
        ("1 day", "1969-12-31T00:00:00Z", "1969-12-31T00:00:00+00:00"),
    ],
)
def test_a_window_starts_at_a_multiple_of_its_size_since_1970(size: str, at: str, start: str) -> None:
    per_product = Aggregate(
        "per_product",
        topic(not_before="1900-01-01"),
        by=["productId"],
        window=Tumbling(size),
        measures={"n": "count(*)"},
    )
    rows = Bench(program(per_product), orders({"orderTimestamp": at})).aggregate().to_pylist()
    assert [row["window_start"].isoformat() for row in rows] == [start]


def nullable(tmp_path: Path, **declared: Any) -> Aggregate:
    fields: list[dict[str, Any]] = [
        {"name": "id", "type": ["null", "string"], "default": None},
        {"name": "at", "type": "long"},
        {"name": "x", "type": ["null", "int"], "default": None},
        {"name": "y", "type": ["null", "double"], "default": None},
    ]
    of = Topic("messages", schema=schema_file(tmp_path, *fields), key="id", event_time=EventTime("at", "ms"))
    return Aggregate("t", of, **{"by": ["id"], "measures": {"n": "count(*)"}, **declared})


def row(**changes: Any) -> dict[str, Any]:
    return {"id": "a", "at": 0, "x": 1, "y": 1.0, **changes}


def test_a_null_key_is_a_dead_letter(tmp_path: Path) -> None:
    assert Bench(program(nullable(tmp_path)), [row(), row(id=None)]).reasons() == [None, "null_key:id"]


def test_a_null_out_of_a_null_is_no_failure_and_out_of_a_value_it_is(tmp_path: Path) -> None:
    of = nullable(tmp_path, measures={"total": "sum(cast(x * 1000000000 as int))", "n": "count(x)"})
    bench = Bench(program(of), [row(), row(x=None), row(x=3)])
    assert bench.reasons() == [None, None, "expression:total"]
    assert bench.aggregate().to_pylist() == [{"id": "a", "total": 1_000_000_000, "n": 1}]


def test_a_null_that_the_text_asks_for_is_no_failure_and_an_error_inside_is_one(tmp_path: Path) -> None:
    of = nullable(tmp_path, measures={"big": "sum(case when x > 5 then cast(x * 1000000000 as int) end)"})
    bench = Bench(program(of), [row(x=1), row(x=None), row(x=6)])
    assert bench.reasons() == [None, None, "expression:big"]
    assert bench.aggregate().to_pylist() == [{"id": "a", "big": None}]


def test_an_expression_that_gives_infinity_has_failed(tmp_path: Path) -> None:
    of = nullable(tmp_path, measures={"ratio": "max(1 / y)"})
    assert Bench(program(of), [row(), row(y=0.0), row(y=None)]).reasons() == [None, "expression:ratio", None]


def test_a_condition_that_fails_is_named_and_one_that_is_null_filters(tmp_path: Path) -> None:
    of = nullable(tmp_path, where="cast(repeat('9', x * 5) as int) > 0")
    bench = Bench(program(of), [row(), row(x=None), row(x=3)])
    assert bench.reasons() == [None, None, "expression:where"]
    assert [bench.counts()[f"t0_{fate}"] for fate in ("dead", "filtered", "applied")] == [1, 1, 1]


def test_a_requirement_that_is_null_or_fails_does_not_hold(tmp_path: Path) -> None:
    of = nullable(tmp_path)
    strict = Topic(
        "messages", schema=of.source.schema, key="id", event_time=of.source.event_time, require={"r": "x < 9"}
    )
    wanted = Aggregate("t", strict, by=["id"], measures={"n": "count(*)"})
    assert Bench(program(wanted), [row(), row(x=None), row(x=9)]).reasons() == [None, "require:r", "require:r"]


def test_floats_declared_so_may_be_infinite(tmp_path: Path) -> None:
    of = nullable(tmp_path)
    loose = Topic("messages", schema=of.source.schema, key="id", event_time=of.source.event_time, not_finite=("y",))
    wanted = Aggregate("t", loose, by=["id"], measures={"most": "max(y)"})
    bench = Bench(program(wanted), [row(), row(y=INFINITY)])
    assert bench.reasons() == [None, None]
    assert bench.aggregate()["most"].to_pylist() == [INFINITY]


def test_a_nul_in_the_text_of_a_measure_is_a_dead_letter() -> None:
    first = table(measures={"first": "min(orderId)"})
    assert Bench(program(first), orders({}, {"orderId": "\0"})).reasons() == [None, "nul_in_value:first"]


def test_a_schema_may_use_the_names_of_the_columns_of_routed(tmp_path: Path) -> None:
    fields = [
        {"name": name, "type": "string"} for name in ("event_time", "topic_reason", "x0", "t0_reason", "t0_applied")
    ]
    path = schema_file(tmp_path, *fields, {"name": "at", "type": "long"})
    of = Topic("messages", schema=path, key="x0", event_time=EventTime("at", "ms"), require={"r": "event_time = 'e'"})
    wanted = Aggregate(
        "t", of, by=["event_time", "t0_applied"], measures={"n": "count(*)", "m": "max(topic_reason || x0)"}
    )
    value = {"event_time": "e", "topic_reason": "r", "x0": "x", "t0_reason": "t", "t0_applied": "a", "at": 0}
    rows = Bench(program(wanted), [value, {**value, "event_time": "f"}]).aggregate().to_pylist()
    assert rows == [{"event_time": "e", "t0_applied": "a", "n": 1, "m": "rx"}]


def test_money_is_exact_in_its_smallest_unit_and_an_overflow_is_an_error() -> None:
    bench = Bench(program(PER_CUSTOMER), orders(*[{"orderAmount": 0.1}] * 10))
    assert bench.aggregate().to_pylist() == [{"customerId": "c1", "orders": 10, "total": 100}]
    big = Bench(program(PER_CUSTOMER), orders(*[{"orderAmount": 9e15}] * 11))
    with pytest.raises(Exception, match="Failed to cast"):
        big.aggregate()


def test_tables_of_one_topic_share_an_expression() -> None:
    of = program(PER_CUSTOMER, PER_PRODUCT)
    assert of.route_sql.count("decimal(18,2)") == 1
    assert ORDERS.schema == of.schema_path
    assert f"sum({MONEY})" in PER_CUSTOMER.measures.values()
