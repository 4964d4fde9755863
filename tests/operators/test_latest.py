"""The newest row of each key and all its versions: any order, ties, deletions, cuts, crashes give what a query does."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ledger import Connection
from tests.operators.bench import Bench
from tests.operators.conftest import EXAMPLES
from tests.topology.declare import NOON_MICROS, ORDER, topic
from topology import Aggregate, Latest

TOPIC = topic(partitions=2)
CUSTOMERS = Latest(
    "customers",
    source=TOPIC,
    by=["customerId"],
    columns={"status": "status", "cents": "cast(round(orderAmount * 100) as bigint)", "price": "orderAmount"},
    where="status <> 'PENDING'",
)
VERSIONS = replace(CUSTOMERS, name="customer_versions", history=True)
PRODUCTS = Latest("products", source=TOPIC, by=["productId"], columns=["orderId", "customerId"])
COUNTED = Aggregate("counted", source=TOPIC, by=["customerId"], measures={"orders": "count(*)"})

RECORDS = st.lists(
    st.tuples(
        st.integers(0, 1),  # partition, whatever the key
        st.sampled_from(["order", "order", "order", "delete", "mark", "skip"]),
        st.integers(0, 3),  # customer and product
        st.integers(0, 6),  # minute
        st.integers(-1, 9),  # amount: those below 1 are invalid and move no watermark
        st.sampled_from(["COMPLETED", "FAILED", "PENDING"]),
    ),
    max_size=40,
)
BAD = b"\xff"
_VERSIONS = """
create table versions as
with valid as (select *, epoch_us(orderTimestamp::timestamptz) as t from log where orderAmount > 0),
moved as (select partition, "offset", t from valid
  union all select partition, "offset", marker from nulls where marker is not null),
gone as (select key, n.partition, n."offset", max(t) as t from nulls n join moved m
    on m.partition = n.partition and m."offset" < n."offset"
  where marker is null and key is not null and key <> '\\xff'::blob group by all)
select customerId, status, round(orderAmount * 100)::bigint as cents, orderAmount as price, t, partition, "offset",
  false as deleted
from valid where status <> 'PENDING'
union all select key::varchar, null, null, null, t, partition, "offset", true from gone
"""


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)
@given(records=RECORDS, seed=st.integers(0, 2**32))
def test_equals_the_batch_query(db: Connection, records: list[tuple[int, str, int, int, int, str]], seed: int) -> None:
    bench = Bench(db, TOPIC, [CUSTOMERS, VERSIONS, PRODUCTS, COUNTED])
    for number, (partition, what, who, minute, amount, status) in enumerate(records):
        if what == "order":
            bench.send(partition, order(number, who, minute, amount, status))
        elif what == "delete":
            bench.delete(partition, {0: None, 1: BAD}.get(amount, f"c{who}".encode()))
        elif what == "mark":
            bench.mark(partition, NOON_MICROS + minute * 60_000_000)
    bench.play(random.Random(seed))
    duck = bench.duck()
    duck.execute(_VERSIONS)
    newest = duck.sql(
        "select customerId, status, cents, price from (select * from versions"
        ' qualify row_number() over (partition by customerId order by t desc, partition desc, "offset" desc) = 1)'
        " where not deleted"
    )
    assert sorted(tuple(row.values()) for row in bench.rows("customers")) == sorted(newest.fetchall())
    history = duck.sql(
        "select customerId, status, cents, price, t, next from (select *, lead(t) over"
        ' (partition by customerId order by t, partition, "offset") as next from versions) where not deleted'
    )
    found = [
        (
            *list(row.values())[:4],
            *(None if at is None else round(at.timestamp() * 1e6) for at in (row["valid_from"], row["valid_to"])),
        )
        for row in bench.rows("customer_versions")
    ]
    assert sorted(found, key=repr) == sorted(history.fetchall(), key=repr)
    products = duck.sql(
        "select productId, orderId, customerId from log where orderAmount > 0 qualify row_number() over"
        ' (partition by productId order by orderTimestamp::timestamptz desc, partition desc, "offset" desc) = 1'
    )
    assert sorted(tuple(row.values()) for row in bench.rows("products")) == sorted(products.fetchall())
    fates(bench)


def order(number: int, who: int, minute: int, amount: int, status: str) -> dict[str, object]:
    return {
        **ORDER,
        "orderId": f"o{number}",
        "customerId": f"c{who}",
        "productId": f"p{who % 3}",
        "orderAmount": float(amount),
        "orderTimestamp": f"2026-01-10T12:{minute:02d}:00Z",
        "status": status,
    }


def fates(bench: Bench) -> None:
    """A record without value is applied where its key names a row, and a dead letter in every other table."""
    ((good, without, foreign, bad),) = (
        bench.duck()
        .sql(
            "select count(*) filter (key <> '\\xff'::blob), count(*) filter (key is null),"
            " count(*) filter (key = '\\xff'::blob), (select count(*) from log where orderAmount <= 0)"
            " from nulls where marker is null"
        )
        .fetchall()
    )
    letters: dict[str, dict[str, int]] = {}
    for name, reason, count in bench.db.execute(
        "select split_part(table_version, '@', 1), reason, count(*) from ledger.dead_letters group by 1, 2"
    ):
        letters.setdefault(name, {})[reason] = count
    invalid = {"require:positive_amount": bad}
    own = invalid | {"empty_value": without, "bad_key:customerId": foreign}
    other = invalid | {"empty_value": without + foreign + good}
    for name, expected in (("customers", own), ("customer_versions", own), ("products", other), ("counted", other)):
        assert letters.get(name, {}) == {reason: count for reason, count in expected.items() if count}
    dead = {row["table_version"].split("@")[0]: 0 for row in bench.accounting()}
    for row in bench.accounting():
        dead[row["table_version"].split("@")[0]] += row["dead_lettered"]
    assert all(count == sum(letters.get(name, {}).values()) for name, count in dead.items())
