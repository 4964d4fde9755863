"""Measures that cannot be kept up to date, or not exactly, are refused in one line with a remedy."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.errors import DeclarationError
from tests.topology.declare import program, table
from topology import Count


def refused(**changes: Any) -> str:
    with pytest.raises(DeclarationError) as caught:
        program(table(**changes))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("assets/orders.py: per_customer.")
    return message


@pytest.mark.parametrize(
    ("measure", "says"),
    [
        ("median(quantity)", "median is not among the aggregates that merge partial rows; use one of sum"),
        ("quantile_cont(quantity, 0.5)", "is not among the aggregates"),
        ("stddev(orderAmount)", "stddev_samp of DOUBLE depends on the order of the records; cast inside it, as in"),
        ("var_pop(orderAmount)", "declare approx=True"),
        ("stddev(cast(orderAmount as decimal(30,4)))", "cast inside it to 18 digits at most"),
        ("stddev(cast(quantity as hugeint))", "squares of HUGEINT have more digits"),
        ("stddev(status)", "stddev_samp needs a number and this is VARCHAR"),
        ("stddev(distinct quantity)", "stddev_samp has no distinct; only count(distinct ...) has"),
        ("sum(distinct quantity)", "sum has no distinct"),
        ("count(distinct orderAmount)", "DOUBLE has values that look equal and are not; cast inside it, as in count("),
        ("count(distinct orderId, quantity)", "count distinct takes one expression"),
        ("count(distinct)", "count distinct takes one expression"),
        ("count(distinct *)", "has a star"),
        (
            "count(distinct encode(orderId))",
            "distinct values of BLOB are not supported; cast it to one of BIGINT, BOOL",
        ),
        ("count(distinct orderId) + 1", "computes with an aggregate"),
        ("approx_count_distinct(orderId)", "is not among the aggregates"),
        ("stddev(*)", "has a star"),
        ("first(status = 'FAILED')", "first of BOOLEAN is not supported; cast it to one of"),
        ("last(orderId order by quantity)", "first and last go by event time, leave it out"),
    ],
)
def test_a_measure_that_cannot_be_kept(measure: str, says: str) -> None:
    assert says in refused(measures={"total": measure})


def test_distinct_values_of_windows_of_records() -> None:
    assert refused(measures={"n": "count(distinct orderId)"}, window=Count(100)).endswith(
        "measures.n: distinct values are not kept for windows of 100 records; use a window over time, or none"
    )


@pytest.mark.parametrize("name", ["total__sum", "total__count", "total__squares", "total__time", "total__offset"])
def test_the_names_of_states_are_not_those_of_measures(name: str) -> None:
    assert f'name "{name}" does not fit' in refused(measures={name: "count(*)"})
