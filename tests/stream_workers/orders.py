"""Orders for worker tests: good ones, every kind of bad one, and what must become of each. Imports nothing of ours
but the envelope of the wire format written out by hand."""

from __future__ import annotations

import io
import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import fastavro
import pyarrow as pa

SCHEMA = json.loads((Path(__file__).parents[2] / "schemas/orders/order_created.avsc").read_text())
_PARSED = fastavro.parse_schema(SCHEMA)
_FAR = "2099-01-01T00:00:00Z"
_EARLY = "2020-01-01T00:00:00Z"

# kind -> reason it ends with; None: applied
BAD: dict[str, str] = {
    "truncated": "undecodable",
    "unknown_schema": "unknown_schema_id",
    "no_magic": "no_magic_byte",
    "empty": "empty_value",
    "null": "empty_value",
    "negative": "require:positive_amount",
    "nan": "not_finite:orderAmount",
    "bad_time": "bad_time",
    "no_zone": "no_time_zone",
    "far": "too_far_ahead",
    "early": "before_start",
    "huge": "expression:",  # prefix: the first measure that cannot hold it
    "nul_key": "nul_in_key:",
}


@dataclass(frozen=True)
class Message:
    """One record as it is sent: `order` is None for records that no reader can decode."""

    kind: str
    key: bytes
    value: bytes | None
    order: dict[str, Any] | None


@dataclass
class Sent:
    """Everything that was committed to the topic."""

    messages: list[Message] = field(default_factory=list)

    @property
    def good(self) -> list[dict[str, Any]]:
        return [m.order for m in self.messages if m.kind == "good" and m.order is not None]

    def bad(self) -> dict[str, int]:
        """How many records of each bad kind."""
        kinds = [m.kind for m in self.messages if m.kind != "good"]
        return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


def order(rng: random.Random, number: int) -> dict[str, Any]:
    minute = rng.randrange(3 * 24 * 60)
    return {
        "orderId": f"o{number}",
        "customerId": f"c{rng.randrange(400)}",
        "productId": f"p{rng.randrange(60)}",
        "quantity": rng.randrange(1, 9),
        "orderAmount": rng.randrange(1, 100_000) / 100,
        "orderTimestamp": f"2026-03-{1 + minute // 1440:02d}T{minute // 60 % 24:02d}:{minute % 60:02d}"
        + f":{rng.randrange(60):02d}"
        + rng.choice(["Z", "+00:00", ".250Z"]),
        "status": rng.choice(["COMPLETED", "COMPLETED", "FAILED", "PENDING"]),
    }


# An earlier version of the schema: other order of fields, one that is gone by now, two statuses only.
OLDER = {
    **SCHEMA,
    "fields": [
        {"name": "coupon", "type": ["null", "string"]},
        *(
            {**f, "type": {**f["type"], "symbols": ["FAILED", "COMPLETED"]}} if f["name"] == "status" else f
            for f in reversed(SCHEMA["fields"])
        ),
    ],
}
_OLDER = fastavro.parse_schema({**OLDER, "name": "OrderCreatedOlder"})


def encode(schema_id: int, record: dict[str, Any], *, older: bool = False) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, _OLDER if older else _PARSED, {"coupon": "x", **record} if older else record)
    return b"\0" + schema_id.to_bytes(4, "big") + out.getvalue()


def message(rng: random.Random, schema_id: int, number: int, kind: str) -> Message:
    record = order(rng, number)
    changes: dict[str, dict[str, Any]] = {
        "negative": {"orderAmount": -5.0},
        "nan": {"orderAmount": float("nan")},
        "bad_time": {"orderTimestamp": "yesterday"},
        "no_zone": {"orderTimestamp": "2026-03-01T10:00:00"},
        "far": {"orderTimestamp": _FAR},
        "early": {"orderTimestamp": _EARLY},
        "huge": {"orderAmount": 1e17},
        "nul_key": {"customerId": "c\0x", "productId": "p\0x"},
    }
    record |= changes.get(kind, {})
    value: bytes | None = encode(schema_id, record)
    assert value is not None
    if kind == "truncated":
        value = value[:-4]
    elif kind == "unknown_schema":
        value = b"\0\x7f\xff\xff\xf0" + value[5:]
    elif kind == "no_magic":
        value = b"\x07" + value[1:]
    elif kind == "empty":
        value = b""
    elif kind == "null":
        value = None
    readable = kind == "good" or kind in changes
    return Message(kind, record["customerId"].encode(), value, record if readable else None)


def recompute(good: list[dict[str, Any]]) -> dict[str, set[tuple[Any, ...]]]:
    """The tables as a hand-written query over the good orders has them."""
    con = duckdb.connect()
    con.execute("set TimeZone='UTC'")
    con.register("orders", pa.Table.from_pylist(good))
    totals = con.execute(
        """select customerId, count(*), sum(cast(orderAmount as decimal(18,2))),
                  min(cast(orderAmount as decimal(18,2))),
                  max(cast(orderAmount as decimal(18,2))) from orders group by all"""
    ).fetchall()
    sales = con.execute(
        """select productId, epoch_us(cast(orderTimestamp as timestamptz)) // 900000000 * 900000000,
                  sum(cast(orderAmount as decimal(18,2))), count(*)
             from orders where status = 'COMPLETED' group by all"""
    ).fetchall()
    return {"customer_order_totals": set(totals), "product_sales": set(sales)}
