"""Derived columns that cannot be are refused in one line with a remedy; what they are made of is kept."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.errors import DeclarationError
from tests.topology.declare import program, table
from topology import Tumbling


def compiled(derived: dict[str, str], **changes: Any) -> Any:
    (made,) = program(table(derived=derived, **changes)).tables
    return made


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("totl / orders", 'column "totl" does not exist in table per_customer; did you mean "total"?'),
        ("total / windowStart", 'column "windowStart" does not exist in table per_customer'),
        ("orderAmount / 2", 'column "orderAmount" does not exist in table per_customer'),
        ("t.total / 2", 'column "t.total" does not exist'),
        ("sum(total)", '"SUM(total)" is an aggregate; declare it as a measure and use its name'),
        ("total + customerId", '"customerId" is a text where a number is needed'),
        ("total and true", '"total" is a number where a condition is needed'),
        ("not total", "is a number where a condition is needed"),
        ("case when total then 1 end", "is a number where a condition is needed"),
        ("coalesce(total, 'none')", "puts a number and a text together; use values of one kind"),
        ("total = 'none'", "puts a number and a text together"),
        ("case when orders > 1 then total else customerId end", "puts a number and a text together"),
        ("cast(total as integer)", "cannot be in a derived column; use columns, numbers, texts, + - * / %"),
        ("total || 'x'", "cannot be in a derived column"),
        ("sqrt(total)", "cannot be in a derived column"),
        ("now()", "cannot be in a derived column"),
        ("random() * total", "cannot be in a derived column"),
        ("(select 1) + total", "cannot be in a derived column"),
        ("total over ()", "is not SQL"),
        ("rank() over (order by total)", "cannot be in a derived column"),
        ("total between symmetric 2 and 1", "has more to it than a derived column may"),
        ("total in (select 1)", "has more to it than a derived column may"),
        ("total is true", "can only be asked of null"),
        ("round(total, orders)", "is rounded to an unknown number of places; write it, as in round(x, 2)"),
        ("total * 1e400", "is no number here"),
        ("1 + 1", "names no column, so it is the same in every row; leave it out"),
        ("case when total > 1 then null end", "is null in every row"),
        ("total /", "is not SQL"),
        ("total; drop table x", "has a semicolon"),
        ("", "is empty"),
    ],
)
def test_refused(text: str, says: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        compiled({"basket": text})
    message = str(caught.value)
    assert message.startswith("assets/orders.py: per_customer.derived.basket: "), message
    assert "\n" not in message
    assert says in message


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("total", 'column "total" is there twice; rename one'),
        ("Total", "is there twice"),
        ("customerId", "is there twice"),
        ("windowStart", "is reserved"),
        ("a basket", 'name "a basket" does not fit'),
    ],
)
def test_names(name: str, says: str) -> None:
    with pytest.raises(DeclarationError, match=says):
        compiled({name: "total / 2"})


def test_its_type_its_origin_and_the_version() -> None:
    plain = compiled({})
    made = compiled(
        {"basket": "total / orders", "big": "total > 100", "who": "nullif(customerId, '')", "when": "windowEnd"},
        window=Tumbling("1 hour"),
    )
    assert {column.name: column.pg_type.partition(" COLLATE")[0] for column in made.columns[-4:]} == {
        "basket": "numeric",
        "big": "boolean",
        "who": "text",
        "when": "timestamptz",
    }
    assert made.lineage["basket"] == ("orderAmount",)
    assert made.lineage["who"] == ("customerId",)
    assert made.lineage["when"] == ("orderTimestamp",)
    assert "derived" not in plain.definition
    assert compiled({"x": "total/orders"}).version == compiled({"x": "total  /  orders"}).version
    assert compiled({"x": "total / orders"}).version != compiled({"x": "total * orders"}).version != plain.version
