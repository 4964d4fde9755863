"""Alerts and derived topics on final rows: what they take from the table, and what is refused when they load."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from headrace.errors import DeclarationError
from tests.catalogs_lookup import per_tier
from tests.topology.declare import PER_PRODUCT, table
from topology import Aggregate, Alert, Count, Derived, EventTime, Final, Hopping, Session, compile_pipeline
from topology.program import PipelineProgram

SALES = replace(PER_PRODUCT, emit=Final("sales", partitions=3, dead_letters="failed-sales"))
BOTH = replace(SALES, by=["productId", "status"])
COLUMNS = {"productId": "productId", "windowEnd": "windowEnd", "total": "total", "revision": "revision"}


def alert(of: Aggregate = SALES, **changes: Any) -> Alert:
    return Alert(**{"name": "big-sales", "source": of, "when": "total > 1000", "columns": COLUMNS, **changes})


def program(of: Derived) -> PipelineProgram:
    return compile_pipeline(of.maker, of.source, [of], place="assets/shop.py")


def test_the_source_is_the_topic_of_the_table() -> None:
    found = alert()
    assert found.source is SALES.final is Derived(name="x", source=SALES.final, key="", columns={}).source
    assert replace(found, when="total > 5").source is SALES.final
    assert (found.key, found.partitions, found.maker) == ("productId", 3, "sales-derived")
    assert (found.event_time, found.not_before) == (EventTime("windowEnd", "us"), "2026-01-01")
    assert [topic.depth for topic in (SALES.source, SALES.final, found)] == [0, 1, 2]


def test_its_columns_have_the_types_of_the_table() -> None:
    kinds = {f.name: (f.kind, f.nullable) for f in alert(columns={**COLUMNS, "mean": "total / orders"}).shape.fields}
    assert kinds == {
        "alertId": ("string", False),
        "productId": ("string", False),
        "windowEnd": ("timestamp-micros", False),
        "total": ("decimal", True),
        "revision": ("int", False),
        "mean": ("double", True),
    }


def test_the_version_is_about_the_rows_it_reads_and_not_about_words() -> None:
    def version(of: Aggregate) -> str:
        return program(alert(of)).tables[0].version

    same = replace(SALES, description="words", emit=Final("sales", 3, "1 day", "others"))
    assert version(same) == version(SALES)
    assert version(replace(SALES, emit=Final("others", 3, dead_letters="x"))) != version(SALES)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"when": "totl > 5"}, 'column "totl" does not exist in the final rows of per_product; did you mean "total"'),
        ({"when": "quantity > 5"}, 'column "quantity" does not exist in the final rows of per_product'),
        ({"when": "total"}, "a condition is true or false"),
        ({"columns": {"productId": "productId"}}, 'the source\'s event time; add "windowEnd": "windowEnd"'),
        ({"columns": {"windowEnd": "windowEnd"}}, 'no column is the source\'s key; add "productId"'),
        ({"source": BOTH}, "big-sales.key: the key of sales is made of 2 columns; say which of the alert's fields"),
        ({"source": replace(BOTH, by=[])}, "made of 0 columns; say which"),
        (
            {"source": replace(SALES, emit=Final("sales"))},
            'its source sales has no dead_letters.*declare it in the table\'s Final, as in dead_letters="failed-sales"',
        ),
        ({"source": replace(SALES, emit=Final("sales", dead_letters="a b"))}, 'emit.dead_letters: "a b" does not fit'),
        ({"source": replace(SALES, window=None)}, "a row without window is never final"),
    ],
)
def test_wrong_alerts_are_refused_when_they_load(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        program(alert(**{"of": changes.pop("source", SALES), **changes}))
    assert re.search(says, str(caught.value)) and "\n" not in str(caught.value), str(caught.value)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (replace(SALES, emit=None), 'per_product emits no final rows.* as in emit=Final\\(topic="..."\\)'),
        (table(), 'per_customer emits no final rows.* as in emit=Final\\(topic="..."\\)'),
        (replace(SALES, source=BOTH), "per_product.source is no topic; declare a Derived of the final rows"),  # type: ignore[arg-type]
        ("sales", "big-sales.source: 'sales' is no topic; give a topic, or an Aggregate whose final rows are one"),
    ],
)
def test_what_is_neither_topic_nor_emitting_is_no_source(source: Any, says: str) -> None:
    with pytest.raises(DeclarationError, match=says):
        alert(source)


def test_a_key_may_be_chosen_where_the_table_has_several_columns() -> None:
    found = alert(replace(BOTH, window=Hopping("30 minutes", "10 minutes")), key="productId")
    assert program(found).tables[0].columns[0].name == "alertId"
    assert program(replace(found, key="revision")).derives


VISITS = table(window=Session("10 minutes"), emit=Final("visits", dead_letters="failed-visits"))
OF_VISITS = {"customerId": "customerId", "windowEnd": "windowEnd"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, False),
        ({"columns": {**OF_VISITS, "withdrawn": "withdrawn"}}, True),
        ({"where": "not withdrawn"}, True),
        ({"where": "orders > 1"}, False),
    ],
)
def test_what_becomes_of_a_session_that_is_withdrawn_is_said(changes: dict[str, Any], said: bool) -> None:
    copies = Derived(**{"name": "copies", "source": VISITS, "key": "customerId", "columns": OF_VISITS, **changes})
    if said:
        assert program(copies).derives
        return
    with pytest.raises(DeclarationError, match=r'copies: rows of sessions may be withdrawn.* where="not withdrawn"'):
        program(copies)


def test_an_alert_on_sessions_says_nothing_of_it() -> None:
    found = Alert("long", source=VISITS, when="orders > 9 or revision > 3", columns=OF_VISITS)
    assert '"withdrawn"' in program(found).route_sql
    with pytest.raises(DeclarationError, match=r"big-sales\.where"):
        program(alert(VISITS, when="true) or (true", columns=OF_VISITS))


def test_an_alert_on_windows_of_records() -> None:
    threes = table(window=Count(3), emit=Final("threes", dead_letters="failed-threes"))
    found = Alert("much", source=threes, when="windowNumber > 2 and total > 5", columns=OF_VISITS)
    assert (found.event_time, program(found).derives) == (EventTime("windowEnd", "us"), True)


def test_rows_by_a_column_that_was_looked_up() -> None:
    of = replace(per_tier, emit=Final("tiers", dead_letters="failed-tiers"))
    found = Alert("a-tier", source=of, when="discounts > 5", columns={"tier": "tier", "windowEnd": "windowEnd"})
    assert [field.name for field in of.final.shape.fields][:2] == ["tier", "windowStart"]
    assert program(found).derives
