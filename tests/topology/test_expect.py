"""Wrong expectations are one line; right ones say what Postgres looks for."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from headrace.errors import DeclarationError
from tests.topology.declare import PER_CUSTOMER, PER_PRODUCT, program, table
from topology import Aggregate, Between, Expect, Holds, InSet, NotNull, Tumbling, Unique
from topology.check_expect import RESERVED, Expected, compile_expects
from topology.expect import Expectation

PROGRAMS = {one.name: one for one in program(PER_CUSTOMER, PER_PRODUCT).tables}


def expected(of: Aggregate = PER_PRODUCT, **changes: Any) -> tuple[Expected, ...]:
    return compile_expects([("assets/orders.py", Expect(of, **changes))], PROGRAMS)[of.name]


def refused(of: Aggregate = PER_PRODUCT, **changes: Any) -> str:
    with pytest.raises(DeclarationError) as caught:
        expected(of, **changes)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("assets/orders.py: Expect")
    return message


def test_a_misspelt_column_is_named_with_the_nearest_one() -> None:
    assert refused(critical={"total_known": NotNull("totl")}) == (
        'assets/orders.py: Expect(per_product).critical.total_known: column "totl" does not exist in table '
        'per_product; did you mean "total"?'
    )


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (NotNull("productId"), "this could never fail; leave it out"),
        (NotNull("windowEnd"), "this could never fail; leave it out"),
        (Between("total"), "no bound, so it could never fail"),
        (Between("total", 2, 1), "2 is more than 1; swap them"),
        (Between("totl", 1), 'did you mean "total"?'),
        (Between("productId", 1, 2), '"productId" is text; use InSet or Holds'),
        (Between("total", minimum=date(2026, 1, 1)), "use a number"),
        (Between("total", minimum=True), "True does not fit"),
        (Between("total", maximum=float("nan")), "nan does not fit"),
        (Between("windowStart", minimum=5), "use a date or a datetime with a time zone"),
        (Between("windowStart", minimum=datetime(2026, 1, 1)), "with a time zone"),
        (InSet("productId", []), "needs a list of values"),
        (InSet("productId", "abc"), "needs a list of values"),
        (InSet("productId", [1]), "1 does not fit"),
        (InSet("orders", ["a"]), "'a' does not fit"),
        (InSet("orders", [True]), "True does not fit"),
        (InSet("windowStart", ["2026-01-01"]), "use Between"),
        (InSet("product", ["p"]), 'did you mean "productId"?'),
        (Unique(), 'as in Unique("productId", "windowStart")'),
        (Unique("orders", "orders"), "each once"),
        (Unique("order"), 'did you mean "orders"?'),
        (Unique("productId", "windowStart"), "by lacks the records' key customerId; leave it out"),
        (Unique("orders", "productId", "windowEnd"), "this could never fail"),
        (Holds("totl > 0"), 'did you mean "total"?'),
        (Holds('productId <> "p"'), "'p', in single quotes"),
        (Holds("total >"), "is not SQL"),
        (Holds("total > 0; drop table x"), "semicolon"),
        (Holds(""), "is empty"),
        (Holds("total + 1"), "a condition is true or false"),
        (Holds("total"), "a condition is true or false"),
        (Holds("1 = 1"), "names no column"),
        (Holds("sum(total) > 0"), "has an aggregate"),
        (Holds("total > (select 1)"), "has a subquery"),
        (Holds("row_number() over () > total"), "a window function"),
        (Holds("total > random()"), "depends on chance"),
        (Holds("total > 0 -- money"), "a comment"),
        ("total > 0", "is no expectation; use NotNull, Between, Unique, InSet or Holds"),
    ],
)
def test_a_wrong_expectation_is_refused(rule: Expectation, says: str) -> None:
    message = refused(warning={"plausible": rule})
    assert message.startswith("assets/orders.py: Expect(per_product).warning.plausible: ")
    assert says in message


@pytest.mark.parametrize("name", ["", "Total", "total-known", "1st", "a b", "x" * 64, *RESERVED])
def test_a_name_that_makes_no_check_is_refused(name: str) -> None:
    assert "rename it" in (message := refused(critical={name: NotNull("total")})) or "does not fit" in message


def test_names_are_there_once() -> None:
    rule = NotNull("total")
    assert "critical and a warning" in refused(critical={"known": rule}, warning={"known": rule})
    both = [("assets/orders.py", Expect(PER_PRODUCT, critical={"known": rule}))] * 2
    with pytest.raises(DeclarationError, match=r'Expect\(per_product\): "known" is there twice; rename one'):
        compile_expects(both, PROGRAMS)


def test_checks_of_two_tables_do_not_read_alike() -> None:
    sales, sales_of = table(name="sales"), table(name="sales_of")
    programs = {one.name: one for one in program(sales, sales_of).tables}
    expects = [
        ("assets/orders.py", Expect(sales, critical={"of_known": NotNull("total")})),
        ("assets/orders.py", Expect(sales_of, critical={"known": NotNull("total")})),
    ]
    with pytest.raises(DeclarationError, match=r'"known" reads like a check of table sales \(sales_of_known\); rename'):
        compile_expects(expects, programs)


def test_an_expect_needs_a_declared_table_and_something_to_expect() -> None:
    assert "nothing is expected" in refused()
    other = table(name="per_custmer")
    assert 'did you mean "per_customer"?' in refused(other, critical={"known": NotNull("total")})
    assert "is not declared by a name" in refused(table(), critical={"known": NotNull("total")})
    with pytest.raises(DeclarationError, match="is not declared"):
        compile_expects([("assets/orders.py", Expect("per_product"))], PROGRAMS)  # type: ignore[arg-type]


def test_the_key_of_records_is_looked_for_in_the_rows_as_stored() -> None:
    (one,) = expected(PER_CUSTOMER, critical={"once": Unique("customerId")})
    assert one.stored and one.relation.endswith(f"FROM {PROGRAMS['per_customer'].state_table} AS s")
    assert "s.shard" in one.relation
    message = refused(PER_CUSTOMER, critical={"once": Unique("customerId", "total")})
    assert 'write Unique("customerId")' in message
    hourly = table(window=Tumbling("1 hour"))
    (windowed,) = program(hourly).tables
    declared = Expect(hourly, critical={"once": Unique("customerId", "windowStart"), "x": Unique("customerId")})
    once, view = compile_expects([("assets/orders.py", declared)], {windowed.name: windowed})[windowed.name]
    assert once.stored and "s.gen = coalesce(g.gen, 0)" in once.relation and f"'{windowed.version_id}'" in once.relation
    assert not view.stored


def test_expectations_say_what_fails() -> None:
    rules: dict[str, Expectation] = {
        "known": NotNull("total"),
        "range": Between("total", -0.5, 10),
        "since": Between("windowStart", minimum=date(2026, 1, 1)),
        "until": Between("windowEnd", maximum=datetime(2027, 1, 1, 12, tzinfo=UTC)),
        "names": InSet("productId", ["p1", "o'p"]),
        "counts": InSet("orders", [1, 2]),
        "alone": Unique("total", "orders"),
        "relation": Holds("total >= orders and productId <> ''"),
    }
    found = expected(critical=rules)
    assert [(one.name, one.critical, one.key) for one in found] == [
        (name, True, ("productId", "windowStart")) for name in rules
    ]
    assert [one.failing for one in found] == [
        '"total" IS NULL',
        '"total" < -0.5 OR "total" > 10',
        "\"windowStart\" < '2026-01-01T00:00:00+00:00'::timestamptz",
        "\"windowEnd\" > '2027-01-01T12:00:00+00:00'::timestamptz",
        "\"productId\" NOT IN ('p1', 'o''p')",
        '"orders" NOT IN (1, 2)',
        'count(*) OVER (PARTITION BY "total", "orders") > 1 AND "total" IS NOT NULL AND "orders" IS NOT NULL',
        '("total" >= "orders" and "productId" <> \'\') IS NOT TRUE',
    ]
    assert not any(one.stored for one in found)
    assert expected(warning={"x": NotNull("total")})[0].critical is False
