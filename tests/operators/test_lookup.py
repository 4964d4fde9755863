"""Records beside the version that another table had of their key at their time: whatever order, cuts and crashes, they
are what a query written by hand gives at the same vector, when they are applied and ever after."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ledger import Connection, lookups, table_versions
from stream_workers.lookups import NothingToLookUp
from tests.operators.bench import CORRECTION_STEPS, STEPS, Bench
from tests.operators.conftest import EXAMPLES
from tests.topology.declare import NOON_MICROS, ORDER, topic
from topology import Aggregate, Latest, Lookup

CUSTOMER_EVENTS = topic(name="customer-events", partitions=2)
ORDERS = topic(partitions=2)
CUSTOMERS = Latest(
    "customers",
    source=CUSTOMER_EVENTS,
    by=["customerId"],
    columns={
        "region": "status",
        "weight": "quantity",
        "limit": "cast(orderAmount as decimal(18,2))",
        "price": "orderAmount",
        "vip": "orderAmount > 4",
        "since": "cast(orderTimestamp as timestamptz)",
        "day": "cast(cast(orderTimestamp as timestamptz) as date)",
        "note": "case when quantity > 2 then orderId end",
    },
    history=True,
)
EVERY = Lookup(CUSTOMERS, on="customerId", columns=list(CUSTOMERS.measures))
NAMED = Lookup(CUSTOMERS, on="customerId", columns={"kind": "region", "pieces": "weight"}, missing="dead_letter")
TABLES = [
    Aggregate(
        "per_customer",
        source=ORDERS,
        by=["customerId"],
        lookups=[EVERY],
        measures={"orders": "count(*)", "known": "count(region)", "weight": "sum(quantity * weight)"},
    ),
    Aggregate(
        "per_kind",
        source=ORDERS,
        by=["kind"],
        lookups=[NAMED],
        where="pieces > 1",
        measures={"orders": "count(*)", "pieces": "sum(pieces)"},
    ),
    Latest(
        "order_rows",
        source=ORDERS,
        by=["orderId"],
        columns={"area": "region", "weighed": "quantity * weight"},
        lookups=[EVERY],
    ),
    Aggregate("alone", source=ORDERS, by=["customerId"], measures={"orders": "count(*)"}),
]
SENT = st.lists(
    st.tuples(
        st.integers(0, 1),  # a customer's event, or an order
        st.integers(0, 1),  # partition, whatever the key
        st.integers(0, 2),  # customer
        st.integers(0, 6),  # minute
        st.integers(0, 6),  # amount; 0 is refused
        st.sampled_from(["COMPLETED", "FAILED", "PENDING"]),
        st.sampled_from(["", "", "", "delete", "delete", "mark"]),
    ),
    min_size=8,
    max_size=40,
)
# `events`, `nulls`: the customers' log; `corrected`: its replayed dead letters with their numbers; `asked`: the orders,
# each with the vector (offsets, corrections) at which it was applied.
FOUND = """
    with valid as (
        select partition, "offset", epoch_us(orderTimestamp::timestamptz) as t, customerId as id, status as region,
               quantity as weight, orderAmount as price, orderId, 0 as seq from events where orderAmount > 0),
    moved as (
        select partition, "offset", t from valid
        union all select partition, "offset", marker from nulls where marker is not null),
    gone as (
        select n.partition, n."offset", max(m.t) as t, n.key::varchar as id
          from nulls n join moved m on m.partition = n.partition and m."offset" < n."offset"
         where n.marker is null group by all),
    versions as (
        select *, false as deleted from valid
        union all select *, false from corrected
        union all select partition, "offset", t, id, null, null, null, null, 0, true from gone),
    ranked as (
        select a.i, v.*, row_number() over (
                 partition by a.i order by v.t desc nulls last, v.partition desc, v."offset" desc) as nth
          from asked a left join versions v
            on v.id = a.id and v.t <= a.t and v."offset" < a.next[v.partition + 1] and v.seq <= a.seq[v.partition + 1])
    select i, not deleted, region, weight, price::decimal(18,2), price, price > 4, make_timestamptz(t),
           make_timestamptz(t)::date, case when weight > 2 then orderId end
      from ranked where nth = 1 and deleted is not true
    union all
    select i, false, null, null, null, null, null, null, null, null from ranked where nth = 1 and deleted
    order by 1
"""


Pin = tuple[list[int], list[int]]  # by partition of the customers: the next offset, the last correction
Place = tuple[int, int]  # partition and offset of an order


@dataclass
class Two:
    """Both pipelines, and the vector of every order that was applied."""

    db: Connection
    pins: dict[Place, Pin] = field(default_factory=dict)
    replayed: dict[Place, tuple[Mapping[str, Any], Pin]] = field(default_factory=dict)
    corrected: list[tuple[Any, ...]] = field(default_factory=list)
    seqs: list[int] = field(default_factory=lambda: [0, 0])

    def __post_init__(self) -> None:
        self.customers = Bench(self.db, CUSTOMER_EVENTS, [CUSTOMERS])
        others = {table.name: table for table in self.customers.program.tables}
        self.orders = Bench(self.db, ORDERS, TABLES, others=others)

    def done(self) -> bool:
        """Whether every order was consumed."""
        return all(self.orders.position(partition) == self.orders.end(partition) for partition in (0, 1))

    def step(self, rng: random.Random) -> None:
        """Consume a batch of either log, or correct one of its dead letters; now and then with a crash."""
        bench, partition = rng.choice([self.customers, self.orders]), rng.randrange(2)
        at, end = bench.position(partition), bench.end(partition)
        if at < end:
            to = rng.randint(at + 1, min(end, at + rng.choice([1, 3, 10])))
            bench.advance(partition, to, rng.choice(STEPS) if rng.random() < 0.15 else None)
            if bench is self.orders and bench.position(partition) == to:
                self.pins |= {(partition, offset): self._pin() for offset in range(at, to)}
        if rng.random() < 0.3:
            self._correct(rng, bench, partition)

    def _pin(self) -> Pin:
        return [self.customers.position(partition) for partition in (0, 1)], list(self.seqs)

    def _correct(self, rng: random.Random, bench: Bench, partition: int) -> None:
        refused = [
            (e.offset, e.value)
            for e in bench.logs[partition]
            if e.offset < bench.position(partition) and e.value is not None and e.value["orderAmount"] == 0
        ]
        if not refused:
            return
        offset, value = rng.choice(refused)
        edited = {**value, "orderAmount": float(rng.randint(1, 6)), "quantity": rng.randint(1, 4)}
        if (partition, offset) in self.replayed or not bench.correct(partition, offset, edited):
            return
        bench.decide(partition, rng.choice(CORRECTION_STEPS) if rng.random() < 0.3 else None)
        bench.decide(partition)
        if bench is self.orders:
            self.replayed[partition, offset] = edited, self._pin()
            return
        self.seqs[partition] += 1
        named = [edited[name] for name in ("customerId", "status", "quantity", "orderAmount", "orderId")]
        self.corrected.append((partition, offset, micros(edited), *named, self.seqs[partition]))

    def sent(self) -> list[tuple[Place, Mapping[str, Any], Pin]]:
        """Every order of the log, as it was applied or refused at first."""
        return [
            ((p, e.offset), e.value, self.pins[p, e.offset])
            for p, log in self.orders.logs.items()
            for e in log
            if e.value is not None
        ]

    def applied(self) -> list[tuple[Mapping[str, Any], tuple[Any, ...]]]:
        """Every valid order, as replayed, and what was found for it: whether there was a version, and its columns."""
        found = [(self.replayed.get(place, (order, pin))) for place, order, pin in self.sent()]
        valid = [(order, pin) for order, pin in found if order["orderAmount"] > 0]
        return [(order, row) for (order, _), row in zip(valid, self.found(valid), strict=True)]

    def found(self, orders: Sequence[tuple[Mapping[str, Any], Pin]]) -> list[tuple[Any, ...]]:
        """By a query written by hand: what each order finds at its vector."""
        duck = self.customers.duck()
        duck.execute("create view events as select * from log")
        duck.execute(
            'create table corrected (partition bigint, "offset" bigint, t bigint, id varchar, region varchar,'
            " weight int, price double, orderId varchar, seq bigint)"
        )
        for row in self.corrected:
            duck.execute("insert into corrected values (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        duck.execute("create table asked (i bigint, id varchar, t bigint, next bigint[], seq bigint[])")
        for i, (order, pin) in enumerate(orders):
            duck.execute("insert into asked values (?, ?, ?, ?, ?)", [i, order["customerId"], micros(order), *pin])
        rows = duck.sql(FOUND).fetchall()
        assert [row[0] for row in rows] == list(range(len(orders)))
        return [(bool(row[1]), *row[2:]) for row in rows]


@settings(
    max_examples=EXAMPLES if EXAMPLES > 15 else 5,  # two pipelines
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)
@given(sent=SENT, seed=st.integers(0, 2**32))
def test_equals_the_query_at_the_same_vector(
    db: Connection, sent: list[tuple[int, int, int, int, int, str, str]], seed: int
) -> None:
    db.execute("delete from ledger.corrections")  # of an earlier example: the topics are not the same
    two, rng = Two(db), random.Random(seed)
    for number, (side, partition, who, minute, amount, status, what) in enumerate(sent):
        bench = (two.customers, two.orders)[side]
        if what == "mark":
            bench.mark(partition, NOON_MICROS + minute * 60_000_000)
        elif what == "delete" and bench is two.customers:
            bench.delete(partition, f"c{who}".encode())
        else:
            bench.send(partition, order(number, who, minute, amount, status))
    while not two.done() or rng.random() < 0.9:
        two.step(rng)
    applied = two.applied()
    rows = [tuple(row.values()) for row in two.orders.rows("per_customer")]
    assert sorted(rows) == sorted(per_customer(applied))
    rows = [tuple(row.values()) for row in two.orders.rows("per_kind")]
    assert sorted(rows) == sorted(per_kind(applied))
    rows = [tuple(row.values()) for row in two.orders.rows("order_rows")]
    weighed = [(o["orderId"], row[1], None if row[2] is None else o["quantity"] * row[2]) for o, row in applied]
    assert sorted(rows) == sorted(weighed)
    letters = db.execute(
        "select count(*) from ledger.dead_letters where state = 'open' and starts_with(table_version, 'per_kind@')"
    ).fetchone()
    refused = [place for place, order, _ in two.sent() if order["orderAmount"] == 0 and place not in two.replayed]
    assert letters == (len(refused) + sum(not row[0] for _, row in applied),)
    vectors(two)


def test_a_deletion_ends_a_version_and_is_none(db: Connection) -> None:
    two = Two(db)
    two.customers.send(0, order(0, 0, 1, 1, "COMPLETED"))
    two.customers.send(0, order(1, 1, 4, 1, "FAILED"))
    two.customers.delete(0, b"c0")  # at minute 4
    two.customers.send(1, order(2, 0, 6, 2, "PENDING"))
    for partition in (0, 1):
        two.customers.advance(partition, two.customers.end(partition))
    for minute in range(7):
        two.orders.send(0, order(minute, 0, minute, 1, "COMPLETED"))
    two.orders.advance(0, 7)
    enriched = two.orders.lookups.enrich(db, two.orders._batch(0, 0, 7))
    assert enriched.frame is not None
    found = ["COMPLETED"] * 3
    assert enriched.frame.column("region").to_pylist() == [None, *found, None, None, "PENDING"]
    rows = db.execute(
        'select r."offset", d.reason from ledger.dead_letters d join ledger.dead_letter_records r using (record_id)'
    )
    assert sorted(rows) == [(offset, "not_found:customers") for offset in (0, 4, 5)]


def test_a_table_that_was_never_built_names_its_pipeline(db: Connection) -> None:
    two = Two(db)
    two.orders.send(0, order(0, 0, 0, 1, "COMPLETED"))
    table_versions.drop(db, CUSTOMER_EVENTS.pipeline_name)
    says = (
        "customers, in which records of orders are looked up, was never built; nothing was consumed; start its pipeline"
    )
    with pytest.raises(NothingToLookUp, match=f"{says} with `headrace worker start customer-events`"):
        two.orders.advance(0, 1)
    changed = replace(CUSTOMERS, columns=["status"])
    Bench(db, CUSTOMER_EVENTS, [changed])
    with pytest.raises(NothingToLookUp, match=r"lives as customers@.*, the declaration is now customers@"):
        two.orders.advance(0, 1)
    assert two.orders.position(0) == 0


def test_keys_that_postgres_cannot_hold_and_times_beyond_are_asked_for(db: Connection) -> None:
    two = Two(db)
    two.customers.send(0, order(0, 0, 1, 1, "COMPLETED"))
    two.customers.advance(0, 1)
    far = {"orderTimestamp": "9999-12-31T23:59:59Z"}
    for changes in ({"customerId": "c\0"}, {"customerId": ""}, {"orderTimestamp": "soon"}, far):
        two.orders.send(0, order(0, 0, 3, 1, "COMPLETED") | changes)
    enriched = two.orders.lookups.enrich(db, two.orders._batch(0, 0, 4))
    assert enriched.frame is not None
    assert enriched.frame.column("region").to_pylist() == [None, None, None, "COMPLETED"]


def vectors(two: Two) -> None:
    """The index has each batch's vector, and enriched with it again the batch has the same columns."""
    sent = two.sent()
    rows = two.found([(order, pin) for _, order, pin in sent])
    expected = {place: (pin, row) for (place, _, pin), row in zip(sent, rows, strict=True)}
    (version,) = (table.version_id for table in two.customers.program.tables)
    entries = two.db.execute(
        "select split_part(table_version, '@', 1), partition, from_offset, to_offset, lookup_vector"
        " from ledger.batch_index where topic = %s",
        (ORDERS.name,),
    ).fetchall()
    for table, partition, start, stop, vector in entries:
        places = [(partition, offset) for offset in range(start, stop) if (partition, offset) in expected]
        if table == "alone" or not places:
            assert vector is None
            continue
        for place in places:
            offsets, seqs = expected[place][0]
            begun = {p: [offsets[p], seqs[p]] for p in (0, 1) if str(p) in vector[version]}
            assert vector == {version: {str(p): at for p, at in begun.items()}}
            assert all(offsets[p] == 0 for p in {0, 1} - begun.keys())
        again = two.orders.lookups.enrich(two.db, two.orders._batch(partition, start, stop), lookups.decoded(vector))
        assert again.frame is not None
        names = [two.orders.program.lookups[0].found, *CUSTOMERS.measures]
        columns = [again.frame.column(name).to_pylist() for name in names]
        assert list(zip(*columns, strict=True)) == [expected[place][1] for place in places]
    corrections = two.db.execute(
        "select partition, from_offset, lookup_vector from ledger.correction_index"
        " where topic = %s and starts_with(table_version, 'per_customer@')",
        (ORDERS.name,),
    ).fetchall()
    assert {(partition, offset) for partition, offset, _ in corrections} == two.replayed.keys()
    for partition, offset, vector in corrections:
        offsets, seqs = two.replayed[partition, offset][1]
        assert all(at == [offsets[int(p)], seqs[int(p)]] for p, at in vector[version].items())


def order(number: int, who: int, minute: int, amount: int, status: str) -> dict[str, object]:
    return {
        **ORDER,
        "orderId": f"o{number}",
        "customerId": f"c{who}",
        "quantity": 1 + amount % 3,
        "orderAmount": float(amount),
        "orderTimestamp": f"2026-01-10T12:{minute:02d}:00Z",
        "status": status,
    }


def micros(of: Mapping[str, Any]) -> int:
    return NOON_MICROS + int(of["orderTimestamp"][14:16]) * 60_000_000


def per_customer(applied: Sequence[tuple[Mapping[str, Any], tuple[Any, ...]]]) -> list[tuple[Any, ...]]:
    made = []
    for who in sorted({order["customerId"] for order, _ in applied}):
        own = [(order, row) for order, row in applied if order["customerId"] == who]
        weights = [order["quantity"] * row[2] for order, row in own if row[2] is not None]
        made.append((who, len(own), sum(row[0] for _, row in own), sum(weights) if weights else None))
    return made


def per_kind(applied: Sequence[tuple[Mapping[str, Any], tuple[Any, ...]]]) -> list[tuple[Any, ...]]:
    taken = [row for _, row in applied if row[0] and row[2] > 1]
    kinds = Counter(row[1] for row in taken)
    return [(kind, count, sum(row[2] for row in taken if row[1] == kind)) for kind, count in kinds.items()]
