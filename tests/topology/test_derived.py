"""Derived topics: what is refused when they load, the schema they get, and the fate of each record."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import DeclarationError
from schemas import avro
from tests.topology.declare import ORDERS, Bench, orders, schema_file
from topology import Alert, Derived, EventTime, compile_pipeline
from topology.program import PipelineProgram

SOURCE = replace(ORDERS, dead_letters="failed", partitions=4, pipeline="shop")
COLUMNS = {
    "productId": "productId",
    "at": "orderTimestamp",
    "cents": "cast(orderAmount * 100 as bigint)",
    "money": "cast(orderAmount as decimal(10,2))",
    "size": "case when quantity > 5 then 'large' end",
    "status": "status",
}


def derived(**changes: Any) -> Derived:
    return Derived(**{"name": "by-product", "source": SOURCE, "key": "productId", "columns": COLUMNS, **changes})


def program(*of: Derived) -> PipelineProgram:
    return compile_pipeline("shop-derived", SOURCE, of, place="assets/shop.py")


def refused(**changes: Any) -> str:
    with pytest.raises(DeclarationError) as caught:
        program(derived(**changes))
    assert "\n" not in str(caught.value) and str(caught.value).startswith("assets/shop.py: by-product")
    return str(caught.value)


def test_it_is_a_topic_with_the_rules_of_its_source() -> None:
    found = derived()
    assert found.event_time == EventTime("at", "iso8601") and found.not_before == "2026-01-01"
    assert (found.partitions, found.max_ahead, found.maker) == (4, "1 hour", "shop-derived")
    assert found.pipeline_name == "by-product"
    assert derived(event_time=EventTime("cents", "ms")).event_time.column == "cents"


def test_the_schema_follows_from_the_columns() -> None:
    kinds = {f.name: (f.kind, f.nullable) for f in derived().shape.fields}
    assert kinds == {
        "productId": ("string", False),
        "at": ("string", False),
        "cents": ("long", False),
        "money": ("decimal", False),
        "size": ("string", True),
        "status": ("enum", False),
    }
    assert derived().shape.by_name["status"].symbols == SOURCE.shape.by_name["status"].symbols
    assert (derived().shape.by_name["money"].precision, derived().shape.by_name["money"].scale) == (10, 2)
    assert derived().shape.parsed["name"] == "ByProduct"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"columns": {}}, "there is none"),
        ({"columns": {**COLUMNS, "x": "quantty"}}, 'column "quantty" does not exist.*did you mean "quantity"'),
        ({"columns": {**COLUMNS, "x": "sum(quantity)"}}, "aggregate"),
        ({"columns": {**COLUMNS, "x": "random()"}}, "does not depend on the record alone"),
        ({"columns": {**COLUMNS, "x": "cast(quantity as hugeint)"}}, "HUGEINT has no Avro type"),
        ({"columns": {**COLUMNS, "x-y": "quantity"}}, 'field name "x-y" does not fit'),
        ({"columns": {"productId": "productId"}}, "no column is the source's event time"),
        ({"columns": {**COLUMNS, "at": "upper(orderTimestamp)"}}, "no column is the source's event time"),
        ({"key": "product"}, 'column "product" does not exist in the columns of by-product'),
        ({"key": "money"}, '"money" is decimal, no record key; cast it'),
        ({"where": "quantity"}, "a condition is true or false"),
        ({"require": {"some": "quantity > 0"}}, 'column "quantity" does not exist in the columns of by-product'),
        ({"source": replace(SOURCE, dead_letters=None)}, "has no dead_letters.*declare it in the Topic"),
        ({"max_lag": "1 ms"}, "less than a second|not a duration|unknown"),
        ({"made_by": "a b"}, 'made_by: "a b" does not fit'),
    ],
)
def test_wrong_declarations_are_refused_when_they_load(changes: dict[str, Any], says: str) -> None:
    message = refused(**changes)
    assert re.search(says, message), message


ALERT = {"customerId": "customerId", "at": "orderTimestamp", "quantity": "quantity"}


def test_an_alert_is_keyed_as_its_source_and_begins_with_its_id() -> None:
    found = Alert("bulk-alerts", source=SOURCE, when="quantity > 5", columns=ALERT)
    assert found.key == "customerId" and found.where == "quantity > 5" and found.maker == "shop-derived"
    first = found.shape.fields[0]
    assert (first.name, first.kind, first.nullable) == ("alertId", "string", False)
    bench = Bench(program(found), orders({"quantity": 6}, {"quantity": 5}))
    assert bench.counts()["t0_filtered"] == 1
    assert Alert("other", source=SOURCE, when="quantity > 5", columns=COLUMNS, key="productId").key == "productId"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"when": "quantity"}, "where: .*a condition is true or false"),
        ({"columns": {**ALERT, "alertId": "orderId"}}, '"alertId" is the id that every alert has; name the column'),
        ({"columns": {"at": "orderTimestamp"}}, 'no column is the source\'s key; add "customerId"'),
        ({"columns": {"customerId": "customerId"}}, "no column is the source's event time"),
    ],
)
def test_wrong_alerts_are_refused_when_they_load(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(DeclarationError, match=says):
        program(Alert(**{"name": "alerts", "source": SOURCE, "when": "quantity > 5", "columns": ALERT, **changes}))


def test_a_declared_schema_has_to_hold_every_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(avro, "HERE", tmp_path)
    good = [
        {"name": "productId", "type": "string"},
        {"name": "at", "type": "string"},
        {"name": "cents", "type": "long"},
    ]
    three = {name: COLUMNS[name] for name in ("productId", "at", "cents")}

    def path(*fields: dict[str, Any]) -> str:
        return Path(schema_file(tmp_path, *fields)).name

    found = derived(columns=three, schema=path(*good))
    program(found)
    assert found.shape.by_name["cents"].kind == "long"
    avro._load.cache_clear()
    narrow = [*good[:2], {"name": "cents", "type": "int"}]
    assert "it is long and message.avsc has int" in refused(columns=three, schema=path(*narrow))
    avro._load.cache_clear()
    assert 'field "at" of message.avsc is missing' in refused(
        columns={k: v for k, v in three.items() if k != "at"}, schema=path(*good)
    )
    null = {**three, "cents": "nullif(quantity, 0)"}
    assert "may be null and message.avsc takes none; use coalesce" in refused(columns=null, schema=path(*good))
    assert 'field "more" does not exist in message.avsc' in refused(
        columns={**three, "more": "quantity"}, schema=path(*good)
    )


def test_each_record_has_one_fate_and_its_row() -> None:
    of = derived(where="quantity > 1", require={"cheap": "cents < 100000"})
    bench = Bench(
        program(of),
        orders(
            {"quantity": 2},
            {"quantity": 1},
            {"quantity": 6, "orderAmount": 5.5},
            {"orderAmount": -1.0},
            {"quantity": 2, "orderAmount": 2000.0},
            {"quantity": 2, "orderAmount": 1e300},
        ),
    )
    assert bench.reasons() == [
        None,
        None,
        None,
        "require:positive_amount",
        "require:cheap",
        "expression:cents",
    ]
    counts = bench.counts()
    assert (counts["records"], counts["t0_dead"], counts["t0_filtered"], counts["t0_applied"]) == (6, 3, 1, 2)
    rows = bench.aggregate().to_pylist()
    assert [(r["productId"], r["cents"], str(r["money"]), r["size"], r["_key"]) for r in rows] == [
        ("p1", 1000, "10.00", None, "p1"),
        ("p1", 550, "5.50", "large", "p1"),
    ]


def test_a_text_outside_a_declared_enum_is_a_dead_letter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(avro, "HERE", tmp_path)
    avro._load.cache_clear()
    size = {"type": "enum", "name": "Size", "symbols": ["S", "L"]}
    file = schema_file(tmp_path, {"name": "at", "type": "string"}, {"name": "size", "type": size})
    columns = {
        "at": "orderTimestamp",
        "size": "coalesce(case when quantity > 5 then 'L' when quantity > 1 then 'M' end, 'S')",
    }
    bench = Bench(program(derived(columns=columns, key="size", schema=Path(file).name)), orders({}, {"quantity": 2}))
    assert bench.reasons() == [None, "not_in_enum:size"]


def test_what_changes_the_records_changes_the_version() -> None:
    def version(**changes: Any) -> str:
        return program(derived(**changes)).tables[0].version

    same = version()
    assert same == version(description="words", owners=("team:x",), retention="1 day", max_lag="5 minutes")
    others = [
        version(columns={**COLUMNS, "cents": "cast(orderAmount * 10 as bigint)"}),
        version(where="quantity > 1"),
        version(key="status"),
        version(require={"x": "cents > 0"}),
        version(partitions=2),
    ]
    assert len({same, *others}) == 6


def test_several_share_one_pass() -> None:
    found = program(
        derived(), derived(name="cheap", where="orderAmount < 10", columns={**COLUMNS, "c": COLUMNS["cents"]})
    )
    assert found.derives and [table.prefix for table in found.tables] == ["t0_", "t1_"]
    assert found.route_sql.count('orderAmount" * 100') == 1  # an expression of both is evaluated once
    assert json.dumps(found.tables[1].definition)
