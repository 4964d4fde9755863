"""What is wrong with a dedup is one line that names file, table and column, and says what to do."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.errors import DeclarationError
from tests.topology.declare import ORDER, Bench, program, table
from topology import Dedup

ONCE = Dedup(["customerId", "orderId"], horizon="1 hour")


@pytest.mark.parametrize(
    ("dedup", "says"),
    [
        (
            Dedup("orderId", "1 hour"),
            'orders has another key; add "customerId" to the columns, or read the records re-',
        ),
        (Dedup("orderId", "1 hour"), 'Derived(..., key="orderId")'),
        (Dedup(["customerId", "ordrId"], "1 hour"), 'column "ordrId" does not exist'),
        (Dedup(["customerId", "orderAmount"], "1 hour"), "which makes no groups"),
        (Dedup(["customerId", "customerId"], "1 hour"), 'column "customerId" is there twice'),
        (Dedup([], "1 hour"), "it needs the columns of the id"),
        (Dedup("customerId", "an hour"), "dedup.horizon: "),
        (Dedup("customerId", "0 seconds"), "dedup.horizon: "),
        ("customerId", "is no dedup"),
    ],
)
def test_it_is_refused(dedup: Any, says: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        program(table(dedup=dedup))
    assert says in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).startswith("assets/orders.py: per_customer.dedup")


def test_it_is_part_of_the_version() -> None:
    def version(dedup: Dedup | None) -> str:
        return program(table(dedup=dedup)).tables[0].version

    versions = {version(None), version(ONCE), version(Dedup(["customerId", "orderId"], "2 hours"))}
    assert len({*versions, version(Dedup("customerId", "1 hour"))}) == 4
    assert version(Dedup(("customerId", "orderId"), "60 minutes")) == version(ONCE)


def test_an_id_that_postgres_cannot_hold_is_a_dead_letter() -> None:
    bad = [{**ORDER, "orderId": "a\0b"}, {**ORDER, "orderId": "x" * 1_001}, ORDER]
    bench = Bench(program(table(dedup=ONCE)), bad)
    assert bench.reasons() == ["nul_in_id:orderId", "id_too_long:orderId", None]
