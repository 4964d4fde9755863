"""The recomputation against numbers worked out by hand: it is the judge of the demo, so it has to be right itself."""

from __future__ import annotations

import ast
import json
import struct
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli.demo import recompute
from cli.demo.recompute import Recomputation

CSV = """orderId,customerId,productId,quantity,orderAmount,orderTimestamp,status
o1,c1,p1,2,10.10,2026-01-05T10:00:00Z,COMPLETED
o2,c1,p1,1,0.015,2026-01-05T10:14:59.999+00:00,COMPLETED
o3,c2,p1,1,5,2026-01-05T12:15:00+02:00,COMPLETED
o4,c2,p2,1,7.5,2026-01-05T10:00:00Z,PENDING
o5,c2,p2,1,7.5,2026-01-05T10:00:00Z
o6,c2,p2,one,7.5,2026-01-05T10:00:00Z,FAILED
o7,c2,p2,1,7.5,2026-01-05T10:00:00Z,SHIPPED
o8,c2,p2,1,-7.5,2026-01-05T10:00:00Z,FAILED
o9,c2,p2,1,NaN,2026-01-05T10:00:00Z,FAILED
o10,c2,p2,1,1,yesterday,FAILED
o11,c2,p2,1,1,2026-01-05T10:00:00,FAILED
o12,c2,p2,1,1,2026-01-01T00:59:59+01:00,FAILED
"""
ORDER = {
    "orderId": "j1",
    "customerId": "c1",
    "productId": "p1",
    "quantity": 1,
    "orderAmount": 2.5,
    "orderTimestamp": "2026-01-05T10:01:00Z",
    "status": "COMPLETED",
}
JSON_LINES = [
    json.dumps(ORDER),
    json.dumps(ORDER | {"quantity": "1"}),
    json.dumps({key: value for key, value in ORDER.items() if key != "status"}),
    '{"orderId":"j4","customerId":"c1"',
]
CUSTOMERS = """customerId,orders,totalAmount,smallestOrder,largestOrder,averageOrder
c1,3,12.62,0.02,10.10,4.2066666666666667
c2,2,12.50,5.00,7.50,6.25
"""
SALES = """productId,windowStart,windowEnd,salesAmount,orders
p1,2026-01-05 10:00:00+00,2026-01-05 10:15:00+00,12.62,3
p1,2026-01-05 10:15:00+00,2026-01-05 10:30:00+00,5.00,1
"""


@dataclass(frozen=True)
class Bytes:
    value: bytes | None


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    (tmp_path / "a.csv").write_text(CSV)
    (tmp_path / "b.jsonl").write_text("\n".join([*JSON_LINES, ""]))
    return [tmp_path / "a.csv", tmp_path / "b.jsonl"]


def test_counts_every_line_once(files: list[Path]) -> None:
    with Recomputation(files) as expected:
        assert expected.lines() == 16
        assert expected.rejected() == {"missing_column": 2, "wrong_type": 2, "bad_enum": 1, "bad_json": 1}
        assert expected.dead_letters() == {
            "require:positive_amount": 1,
            "not_finite:orderAmount": 1,
            "bad_time": 1,
            "no_time_zone": 1,
            "before_start": 1,
        }


def test_tables_as_worked_out_by_hand(files: list[Path]) -> None:
    with Recomputation(files) as expected:
        for table, text in (("customer_order_totals", CUSTOMERS), ("product_sales", SALES)):
            difference = expected.compare(table, [text.encode()])
            assert difference.none, (table, difference)


@pytest.mark.parametrize(
    ("table", "right", "wrong"),
    [
        ("customer_order_totals", "12.62", "12.63"),
        ("customer_order_totals", "0.02", "0.01"),
        ("customer_order_totals", "6.25", "6.26"),
        ("customer_order_totals", "c2,2,", "c3,2,"),
        ("product_sales", "5.00,1", "5.00,2"),
        ("product_sales", "10:30:00", "10:31:00"),
        ("product_sales", "p1,2026-01-05 10:15:00+00,", "p1,2026-01-05 10:16:00+00,"),
    ],
)
def test_one_wrong_value_is_seen(files: list[Path], table: str, right: str, wrong: str) -> None:
    text = CUSTOMERS if table == "customer_order_totals" else SALES
    with Recomputation(files) as expected:
        assert right in text
        assert not expected.compare(table, [text.replace(right, wrong).encode()]).none


def test_a_missing_a_double_and_no_row_are_seen(files: list[Path]) -> None:
    header, first, second = SALES.splitlines()
    with Recomputation(files) as expected:
        for lines in ([header], [header, first], [header, first, second, second]):
            assert not expected.compare("product_sales", ["\n".join([*lines, ""]).encode()]).none


def test_records_of_no_file_without_an_order_are_counted_by_reason(files: list[Path]) -> None:
    records = [Bytes(None), Bytes(b""), Bytes(b"\x01abcdef"), Bytes(b"\x00ab")]
    with Recomputation(files) as expected:
        foreign = expected.add_foreign(records, "http://127.0.0.1:9")
    assert foreign == recompute.Foreign(4, {"empty_value": 2, "no_magic_byte": 2})
    assert struct.unpack(">I", b"\x00\x00\x00\x07") == (7,)


def test_a_replayed_record_counts_in_its_table_alone(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    order = ORDER | {"orderId": "r1", "orderAmount": 0.02, "orderTimestamp": "2026-01-05T12:14:00+02:00"}
    monkeypatch.setattr(recompute, "_decode", lambda value, url, schemas: order if value == b"good" else "undecodable")
    with Recomputation(files) as expected:
        expected.add_replayed("product_sales", [b"good"], "http://127.0.0.1:9")
        assert expected.compare("customer_order_totals", [CUSTOMERS.encode()]).none
        assert not expected.compare("product_sales", [SALES.encode()]).none
        assert expected.compare("product_sales", [SALES.replace("12.62,3", "12.64,4").encode()]).none
        with pytest.raises(ValueError, match="undecodable"):
            expected.add_replayed("product_sales", [b"bad"], "http://127.0.0.1:9")


def test_imports_nothing_of_ours() -> None:
    ours = {folder.name for folder in Path(__file__).parents[2].iterdir() if (folder / "__init__.py").exists()}
    tree = ast.parse(Path(recompute.__file__).read_text())
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert "cli" in ours and not imported & ours
