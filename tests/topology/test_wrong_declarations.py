"""Every wrong declaration is one line that names file, declaration and column, and says what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headrace.errors import DeclarationError
from tests.topology.declare import MONEY, ORDERS, program, schema_file, table, topic
from topology import Aggregate, EventTime, Topic, Tumbling


def refused(*tables: Aggregate) -> str:
    with pytest.raises(DeclarationError) as caught:
        program(*tables)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("assets/orders.py: ") or message.startswith("schemas/")
    return message


def test_a_misspelt_column_is_named_with_the_nearest_one() -> None:
    assert refused(table(measures={"total": "sum(cast(orderAmont as decimal(18,2)))"})) == (
        'assets/orders.py: per_customer.measures.total: column "orderAmont" does not exist in '
        'orders/order_created.avsc; did you mean "orderAmount"?'
    )


@pytest.mark.parametrize(
    ("measure", "says"),
    [
        ("sum(orderAmount)", "declare approx=True"),
        ("avg(orderAmount)", "cast inside it"),
        ("sum(status)", "sum needs a number and this is VARCHAR"),
        ("sum(orderId = 'a')", "sum needs a number and this is BOOLEAN"),
        ("min(status = 'FAILED')", "min of BOOLEAN is not supported"),
        ("mode(quantity)", "mode is not among the aggregates that merge partial rows"),
        ("sum(sum(quantity))", "has an aggregate where a row expression is needed"),
        ("quantity", "is not an aggregate"),
        ("sum(quantity) + 1", "computes with an aggregate"),
        ("sum(quantity) filter (where quantity > 1)", "case when"),
        ("sum(quantity) over ()", "is a window function"),
        ("sum((select 1))", "has a subquery"),
        ("min(quantity, 2)", "min takes one expression"),
        ("sum(quantity", "is not SQL"),
        ("sum(quantity);", "has a semicolon"),
        ("", "is empty"),
        ("max(orderId /* newest */)", "a comment"),
        ("sum(quantity * random())", "does not depend on the record alone"),
        ("max(now())", "does not depend on the record alone"),
        ("max(current_date)", "does not depend on the record alone"),
        ("max(uuid())", "does not depend on the record alone"),
        ("max(today())", "does not depend on the record alone"),
        ("sum(try(quantity))", "leave it out"),
        ("sum(quantity + $1)", "has a parameter"),
        ("sum(no_such_function(quantity))", "DuckDB refuses"),
        ("sum(QUANTITY)", 'did you mean "quantity"?'),
    ],
)
def test_a_wrong_measure_is_refused(measure: str, says: str) -> None:
    message = refused(table(measures={"total": measure}))
    assert message.startswith("assets/orders.py: per_customer.measures.total: ")
    assert says in message


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"by": ["custmerId"]}, 'per_customer.by: column "custmerId" does not exist'),
        ({"by": ["orderAmount"]}, "is double, which makes no groups"),
        ({"by": []}, "name a group column or add a window"),
        ({"by": ["customerId", "customerId"]}, "is there twice"),
        ({"measures": {}}, "there is none"),
        ({"measures": {"customerId": "count(*)"}}, 'column "customerId" is there twice'),
        ({"measures": {"CUSTOMERID": "count(*)"}}, "is there twice"),
        ({"measures": {"shard": "count(*)"}}, 'column name "shard" is reserved'),
        ({"measures": {"windowStart": "count(*)"}}, "is reserved"),
        ({"measures": {"a b": "count(*)"}}, 'name "a b" does not fit'),
        ({"measures": {"x" * 60: "count(*)"}}, "54 at most"),
        ({"measures": {"total__sum": "count(*)"}}, "not ending in __sum"),
        ({"name": "per-customer"}, "does not fit"),
        ({"name": "x" * 50}, "43 at most"),
        ({"name": "pg_orders"}, "belong to Postgres"),
        ({"where": "orderAmount"}, "a condition is true or false"),
        ({"where": 'status = "COMPLETED"'}, "'COMPLETED', in single quotes"),
        ({"where": "sum(quantity) > 1"}, "has an aggregate"),
        ({"where": "status ="}, "is not SQL"),
        ({"allowed_lateness": "5 minutes"}, "a table without window is never final"),
        ({"window": Tumbling("15 minutes"), "allowed_lateness": "soon"}, '"soon" is not a duration'),
        ({"window": "15 minutes"}, "is no window; use Tumbling"),
        ({"late": "ignore"}, 'use "correct" or "drop"'),
        ({"late": "drop"}, "a table without window has no record that is late"),
    ],
)
def test_a_wrong_table_is_refused(changes: dict[str, Any], says: str) -> None:
    assert says in refused(table(**changes))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"schema": "orders/order_create.avsc"}, 'did you mean "orders/order_created.avsc"?'),
        ({"key": "customer"}, 'orders.key: column "customer" does not exist'),
        ({"name": "or ders"}, "does not fit"),
        ({"dead_letters": "dead letters"}, "does not fit"),
        ({"partitions": 0}, "a topic has 1 or more"),
        ({"event_time": EventTime("orderTime", "iso8601")}, 'did you mean "orderTimestamp"?'),
        ({"event_time": EventTime("orderTimestamp", "ms")}, "use iso8601"),
        ({"event_time": EventTime("quantity", "iso8601")}, "use s or ms or us"),
        ({"event_time": EventTime("orderAmount", "s")}, "use a string, int, long or timestamp column"),
        ({"event_time": EventTime("orderTimestamp", "rfc822")}, "use iso8601, ms, us or s"),  # type: ignore[arg-type]
        ({"event_time": EventTime("orderTimestamp", "iso8601", "Europe/Amstrdam")}, 'did you mean "Europe/Amsterdam"?'),
        ({"event_time": EventTime("quantity", "s", "Europe/Paris")}, "leave zone out"),
        ({"max_ahead": "an hour"}, "is not a duration"),
        ({"retention": "1 fortnight"}, "is not a duration"),
        ({"not_before": "01.01.2026"}, "write it as 2026-01-31"),
        ({"not_finite": ("quantity",)}, "is no float"),
        ({"require": {"positive": "orderAmount"}}, "orders.require.positive: "),
        ({"require": {"a:b": "orderAmount > 0"}}, "does not fit"),
    ],
)
def test_a_wrong_topic_is_refused(changes: dict[str, Any], says: str) -> None:
    assert says in refused(table(topic(**changes)))


def test_a_windowed_table_needs_the_first_day_of_its_topic() -> None:
    message = refused(table(topic(not_before=None), window=Tumbling("1 hour")))
    assert 'not_before="2026-01-01"' in message


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ([{"name": "id", "type": "string"}, {"name": "ID", "type": "string"}], "differ only in case"),
        ([{"name": "id", "type": "string"}, {"name": "_i", "type": "int"}], '"_i" is reserved'),
        ([{"name": "id", "type": {"type": "array", "items": "int"}}], '"array" is not supported'),
        ([{"name": "id", "type": ["int", "string"]}], "unions of null and one other type"),
    ],
)
def test_a_wrong_schema_is_refused(tmp_path: Path, fields: list[dict[str, Any]], says: str) -> None:
    of = Topic("messages", schema=schema_file(tmp_path, *fields), key="id", event_time=EventTime("id", "iso8601"))
    assert says in refused(Aggregate("t", of, by=["id"], measures={"n": "count(*)"}))


def test_the_version_is_the_meaning_and_nothing_else() -> None:
    def version(of: Topic = ORDERS, **changes: Any) -> str:
        return program(table(of, **changes)).tables[0].version

    same = version()
    assert version(description="other words", owners=("team:x",)) == same
    assert (
        version(
            measures={"orders": "COUNT(*)", "total": f"SUM( {MONEY.upper().replace('ORDERAMOUNT', 'orderAmount')} )"}
        )
        == same
    )
    assert version(topic(description="d", dead_letters="x", retention="7 days", partitions=9)) == same
    others = [
        version(where="status = 'FAILED'"),
        version(measures={"orders": "count(*)"}),
        version(by=["productId"]),
        version(window=Tumbling("1 hour")),
        version(window=Tumbling("1 hour"), allowed_lateness="1 minute"),
        version(topic(require={})),
        version(topic(max_ahead="2 hours")),
        version(topic(not_before="2026-01-02")),
        version(topic(not_finite=("orderAmount",))),
        version(topic(event_time=EventTime("orderTimestamp", "iso8601", "Europe/Paris"))),
        version(topic(name="other-orders")),
        version(name="other_table"),
    ]
    assert len({same, *others}) == 1 + len(others)
