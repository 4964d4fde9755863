"""Declarations and frames for the tests of this folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from schemas import AvroSchema, parse
from topology import Aggregate, EventTime, Topic, Tumbling, compile_pipeline
from topology.duck import connect
from topology.program import PipelineProgram

NOON = "2026-01-10T12:00:00Z"
NOON_MICROS = 1_768_046_400_000_000

ORDERS = Topic(
    "orders",
    schema="orders/order_created.avsc",
    key="customerId",
    event_time=EventTime("orderTimestamp", "iso8601"),
    require={"positive_amount": "orderAmount > 0"},
    not_before="2026-01-01",
)
MONEY = "cast(orderAmount as decimal(18,2))"
PER_CUSTOMER = Aggregate(
    "per_customer", ORDERS, by=["customerId"], measures={"orders": "count(*)", "total": f"sum({MONEY})"}
)
PER_PRODUCT = Aggregate(
    "per_product",
    ORDERS,
    by=["productId"],
    window=Tumbling("15 minutes"),
    where="status = 'COMPLETED'",
    measures={"total": f"sum({MONEY})", "orders": "count(*)"},
)
ORDER = {
    "orderId": "o1",
    "customerId": "c1",
    "productId": "p1",
    "quantity": 1,
    "orderAmount": 10.0,
    "orderTimestamp": NOON,
    "status": "COMPLETED",
}


def topic(**changes: Any) -> Topic:
    """The orders topic with some things declared otherwise."""
    return replace(ORDERS, **changes)


def table(of: Topic = ORDERS, **changes: Any) -> Aggregate:
    """A table of orders per customer with some things declared otherwise."""
    return replace(PER_CUSTOMER, source=of, **changes)


def program(*tables: Aggregate) -> PipelineProgram:
    """The compiled pipeline of tables over one topic."""
    return compile_pipeline("orders", tables[0].source, tables, place="assets/orders.py")


def schema_file(folder: Path, *fields: Mapping[str, Any]) -> str:
    """The path of a schema with these fields."""
    file = folder / "message.avsc"
    file.write_text(json.dumps({"type": "record", "name": "Message", "fields": fields}))
    return str(file)


def frame(schema: AvroSchema, rows: Sequence[Mapping[str, Any]], kafka_millis: int | None = None) -> pa.RecordBatch:
    """Decoded records as the worker hands them to DuckDB, written to Kafka at one moment (default: noon)."""
    columns = [pa.array([row[field.name] for row in rows], field.arrow) for field in schema.fields]
    millis = NOON_MICROS // 1000 if kafka_millis is None else kafka_millis
    index = pa.array(range(len(rows)), pa.int64())
    numbers = [index, pa.array([millis] * len(rows), pa.int64()), index]
    return pa.record_batch([*columns, *numbers], names=[*schema.arrow.names, "_i", "_ts", "_offset"])


class Bench:
    """Runs a program's DuckDB SQL over one frame."""

    def __init__(self, of: PipelineProgram, rows: Sequence[Mapping[str, Any]], kafka_millis: int | None = None) -> None:
        self.program = of
        self.duck = connect()
        self.frame = frame(of.schema, rows, kafka_millis)
        self.duck.register("frame", self.frame)
        self.duck.execute(of.route_sql)

    def counts(self) -> dict[str, Any]:
        """The row of counts."""
        (row,) = self.duck.sql(self.program.counts_sql).to_arrow_table().to_pylist()
        return dict(row)

    def reasons(self, table: int = 0) -> list[str | None]:
        """Each record's reason in a table, None where it has none."""
        rows = self.duck.sql("select * from routed order by _i").to_arrow_table().to_pylist()
        return [row["topic_reason"] or row[f"t{table}_reason"] for row in rows]

    def aggregate(self, table: int = 0) -> pa.Table:
        """The partial rows of a table."""
        return self.duck.sql(self.program.tables[table].parts[0].rows_sql).to_arrow_table()


def orders(*changes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Orders like `ORDER`, each with its changes."""
    return [{**ORDER, **change} for change in changes]


__all__ = [
    "MONEY",
    "NOON",
    "NOON_MICROS",
    "ORDER",
    "ORDERS",
    "PER_CUSTOMER",
    "PER_PRODUCT",
    "Bench",
    "frame",
    "orders",
    "parse",
    "program",
    "schema_file",
    "table",
    "topic",
]
