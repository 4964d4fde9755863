"""State in Postgres equals a recomputation, however the records are cut into batches and spread over shards."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.csv
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.topology.declare import MONEY, ORDERS, Bench, orders, program, schema_file, table
from topology import Aggregate, EventTime, Topic, Tumbling
from topology.program import PipelineProgram, TableProgram

EVERYTHING = Aggregate(
    "everything",
    ORDERS,
    by=["customerId", "status"],
    window=Tumbling("1 hour"),
    measures={
        "n": "count(*)",
        "total": f"sum({MONEY})",
        "wide": "sum(cast(orderAmount as decimal(30,4)))",
        "pieces": "sum(quantity)",
        "long": "sum(cast(quantity as bigint))",
        "least": f"min({MONEY})",
        "most": f"max({MONEY})",
        "first": "min(orderId)",
        "last": "max(orderId)",
        "mean": f"avg({MONEY})",
        "even": "sum(case when quantity % 2 = 0 then quantity end)",
        "evens": "count(case when quantity % 2 = 0 then 1 end)",
        "mean_even": "avg(case when quantity % 2 = 0 then quantity end)",
        "newest": "max(cast(orderTimestamp as timestamptz))",
        "half": "avg(quantity)",
    },
)


class State:
    """A table's state in Postgres, written as the worker writes it."""

    def __init__(self, db: psycopg.Connection[Any], of: TableProgram) -> None:
        self.db = db
        self.table = of
        db.execute(of.parts[0].state_ddl.encode())
        db.execute(of.view_ddl.encode())

    def merge(self, rows: pa.Table, shard: int) -> None:
        out = io.BytesIO()
        pyarrow.csv.write_csv(rows, out, pyarrow.csv.WriteOptions(include_header=False))
        with self.db.transaction():
            part = self.table.parts[0]
            self.db.execute(part.stage_ddl.encode())
            with self.db.cursor().copy(part.copy_sql.encode()) as copy:
                copy.write(out.getvalue())
            for statement in part.merge_sql:
                self.db.execute(statement.encode(), {"shard": shard, "version_id": self.table.version_id})

    def rows(self) -> list[dict[str, Any]]:
        with self.db.cursor(row_factory=psycopg.rows.dict_row) as cursor:
            return cursor.execute(f'select * from public."{self.table.name}"'.encode()).fetchall()

    def count(self) -> int:
        found = self.db.execute(f"select count(*) from {self.table.state_table}".encode()).fetchone()
        assert found
        return int(found[0])


@pytest.fixture
def db(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True, options="-c timezone=UTC") as connection:
        yield connection


def feed(state: State, of: PipelineProgram, batches: Sequence[tuple[int, list[dict[str, Any]]]]) -> None:
    for shard, rows in batches:
        if rows:
            state.merge(Bench(of, rows).aggregate(), shard)


def recomputed(rows: list[dict[str, Any]]) -> dict[tuple[str, str, str], dict[str, Any]]:
    """The table `everything` in plain Python."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for one in rows:
        groups.setdefault((one["customerId"], one["status"], one["orderTimestamp"][:13]), []).append(one)
    return {key: recomputed_group(group) for key, group in groups.items()}


def recomputed_group(group: list[dict[str, Any]]) -> dict[str, Any]:
    money = [Decimal(str(one["orderAmount"])) for one in group]
    even = [one["quantity"] for one in group if one["quantity"] % 2 == 0]
    pieces = [one["quantity"] for one in group]
    ids = sorted((one["orderId"] for one in group), key=lambda text: text.encode())
    return {
        "n": len(group),
        "total": sum(money),
        "wide": sum(money),
        "pieces": sum(pieces),
        "long": sum(pieces),
        "least": min(money),
        "most": max(money),
        "first": ids[0],
        "last": ids[-1],
        "mean": Fraction(sum(money)) / len(group),
        "even": sum(even) if even else None,
        "evens": len(even),
        "mean_even": Fraction(sum(even), len(even)) if even else None,
        "newest": max(one["orderTimestamp"] for one in group),
        "half": Fraction(sum(pieces), len(pieces)),
    }


def assert_equal(found: list[dict[str, Any]], expected: dict[tuple[str, str, str], dict[str, Any]]) -> None:
    keyed = {(r["customerId"], r["status"], r["windowStart"].strftime("%Y-%m-%dT%H")): r for r in found}
    assert keyed.keys() == expected.keys()
    assert len(keyed) == len(found)
    for key, values in expected.items():
        row = keyed[key]
        assert (row["windowEnd"] - row["windowStart"]).total_seconds() == 3600
        row = {**row, "newest": row["newest"].strftime("%Y-%m-%dT%H:%M:%SZ")}
        for name, value in values.items():
            if isinstance(value, Fraction):  # numeric division is exact to at least 16 digits
                assert math.isclose(row[name], value, rel_tol=1e-15)
            else:
                assert row[name] == value, (key, name)


texts = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=4)
order = st.builds(
    lambda customer, hour, cents, quantity, status, order_id: orders(
        {
            "customerId": customer,
            "orderTimestamp": f"2026-01-09T{hour:02d}:30:00Z",
            "orderAmount": cents / 100,
            "quantity": quantity,
            "status": status,
            "orderId": order_id,
        }
    )[0],
    st.sampled_from(["", "a", "A", 'q"uo,te', "new\nline", "é", "\\.", "𐍈", "z"]),
    st.integers(0, 2),
    st.integers(1, 10**9),
    st.integers(-3, 3),
    st.sampled_from(["COMPLETED", "FAILED"]),
    texts,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 2), st.lists(order, max_size=12)), min_size=1, max_size=6))
def test_any_cuts_and_any_shards_give_the_recomputed_table(
    db: psycopg.Connection[Any], batches: list[tuple[int, list[dict[str, Any]]]]
) -> None:
    of = program(EVERYTHING)
    state = State(db, of.tables[0])
    db.execute(f"truncate {state.table.state_table}".encode())
    feed(state, of, batches)
    assert_equal(state.rows(), recomputed([one for _, rows in batches for one in rows]))


def test_a_group_of_nulls_never_wipes_a_value(db: psycopg.Connection[Any], tmp_path: Path) -> None:
    fields: list[dict[str, Any]] = [
        {"name": "id", "type": "string"},
        {"name": "at", "type": "long"},
        {"name": "x", "type": ["null", "int"], "default": None},
    ]
    of = Topic("messages", schema=schema_file(tmp_path, *fields), key="id", event_time=EventTime("at", "ms"))
    measures = {
        "total": "sum(x)",
        "least": "min(x)",
        "most": "max(x)",
        "mean": "avg(x)",
        "n": "count(x)",
        "all": "count(*)",
    }
    compiled = program(Aggregate("nulls", of, by=["id"], measures=measures))
    state = State(db, compiled.tables[0])

    def batch(*values: int | None) -> None:
        feed(state, compiled, [(0, [{"id": "a", "at": 0, "x": value} for value in values])])

    batch(None, None)
    assert state.rows() == [{"id": "a", "total": None, "least": None, "most": None, "mean": None, "n": 0, "all": 2}]
    batch(4, None)
    batch(None)
    batch(-2)
    assert state.rows() == [{"id": "a", "total": 2, "least": -2, "most": 4, "mean": 1, "n": 2, "all": 6}]


def test_texts_are_compared_by_bytes(db: psycopg.Connection[Any]) -> None:
    compiled = program(table(measures={"first": "min(orderId)", "last": "max(orderId)"}))
    state = State(db, compiled.tables[0])
    feed(state, compiled, [(0, orders({"orderId": "b"})), (0, orders({"orderId": "Z"})), (1, orders({"orderId": "a"}))])
    assert [(row["first"], row["last"]) for row in state.rows()] == [("Z", "b")]


def test_an_empty_text_is_a_key_and_no_null(db: psycopg.Connection[Any]) -> None:
    compiled = program(table(measures={"first": "min(orderId)"}))
    state = State(db, compiled.tables[0])
    feed(state, compiled, [(0, orders({"customerId": "", "orderId": ""}))])
    assert state.rows() == [{"customerId": "", "first": ""}]


def test_every_shard_writes_rows_of_its_own_and_the_view_combines_them(db: psycopg.Connection[Any]) -> None:
    compiled = program(table())
    state = State(db, compiled.tables[0])
    feed(state, compiled, [(0, orders({})), (1, orders({})), (0, orders({}))])
    assert state.count() == 2
    assert state.rows() == [{"customerId": "c1", "orders": 3, "total": Decimal("30.00")}]


def test_view_and_merge_follow_the_generation_of_a_day(db: psycopg.Connection[Any]) -> None:
    compiled = program(EVERYTHING)
    state = State(db, compiled.tables[0])
    feed(state, compiled, [(0, orders({}, {"orderTimestamp": "2026-01-09T23:59:59Z"}))])
    assert sorted(row["n"] for row in state.rows()) == [1, 1]
    version = compiled.tables[0].version_id
    db.execute(
        "insert into ledger.table_versions (table_version, table_name, pipeline, state_table, definition) "
        "values (%s, 'everything', 'orders', 's', '{}')",
        (version,),
    )
    db.execute("insert into ledger.generations values (%s, '2026-01-10', 1)", (version,))
    assert [row["windowStart"].day for row in state.rows()] == [9]
    feed(state, compiled, [(0, orders({}, {}, {"orderTimestamp": "2026-01-09T23:59:59Z"}))])
    assert sorted((row["windowStart"].day, row["n"]) for row in state.rows()) == [(9, 2), (10, 2)]
    db.execute("update ledger.generations set gen = 0 where table_version = %s", (version,))
    assert sorted((row["windowStart"].day, row["n"]) for row in state.rows()) == [(9, 2), (10, 1)]


def test_two_versions_of_a_table_have_states_of_their_own(db: psycopg.Connection[Any]) -> None:
    first, second = program(table()), program(table(where="status = 'FAILED'"))
    for compiled in (first, second):
        feed(State(db, compiled.tables[0]), compiled, [(0, orders({}))])
    assert first.tables[0].state_table != second.tables[0].state_table


def test_every_key_type_arrives_as_it_was(db: psycopg.Connection[Any], tmp_path: Path) -> None:
    kinds: dict[str, Any] = {
        "text": ["null", "string"],
        "small": "int",
        "big": "long",
        "flag": "boolean",
        "day": {"type": "int", "logicalType": "date"},
        "moment": {"type": "long", "logicalType": "timestamp-millis"},
        "price": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2},
        "kind": {"type": "enum", "name": "K", "symbols": ["A", "B"]},
    }
    path = schema_file(tmp_path, *({"name": name, "type": kind} for name, kind in kinds.items()))
    of = Topic("messages", schema=path, key="text", event_time=EventTime("moment", "ms"))
    compiled = program(Aggregate("keys", of, by=list(kinds), measures={"n": "count(*)"}))
    state = State(db, compiled.tables[0])
    value = {
        "text": "t",
        "small": -1,
        "big": 2**62,
        "flag": True,
        "day": 20_000,
        "moment": 1,
        "price": Decimal("1.50"),
        "kind": "B",
    }
    feed(state, compiled, [(0, [value]), (0, [value])])
    (found,) = state.rows()
    assert (found["text"], found["small"], found["big"], found["flag"]) == ("t", -1, 2**62, True)
    assert (found["price"], found["kind"], found["n"]) == (Decimal("1.50"), "B", 2)
    assert found["day"].isoformat() == "2024-10-04"
    assert found["moment"].isoformat() == "1970-01-01T00:00:00.001000+00:00"


def test_an_approximate_sum_of_doubles_is_possible_where_asked_for(db: psycopg.Connection[Any]) -> None:
    compiled = program(table(approx=True, measures={"total": "sum(orderAmount)", "mean": "avg(orderAmount)"}))
    state = State(db, compiled.tables[0])
    feed(state, compiled, [(0, orders({"orderAmount": 0.5})), (1, orders({"orderAmount": 2.5}))])
    assert state.rows() == [{"customerId": "c1", "total": 3.0, "mean": 1.5}]


def test_the_views_columns_are_those_that_were_said(db: psycopg.Connection[Any]) -> None:
    compiled = program(EVERYTHING)
    State(db, compiled.tables[0])
    found = db.execute(
        "select a.attname, format_type(a.atttypid, a.atttypmod) from pg_attribute a "
        "where a.attrelid = 'public.everything'::regclass and a.attnum > 0 order by a.attnum"
    ).fetchall()
    said = [(column.name, column.pg_type.removesuffix(' COLLATE "C"')) for column in compiled.tables[0].columns]
    assert found == [(name, kind.replace("timestamptz", "timestamp with time zone")) for name, kind in said]
    assert set(compiled.tables[0].lineage) == {name for name, _ in said}
