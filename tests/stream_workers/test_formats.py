"""CSV and JSON files into one topic, in any order, Avro or JSON inside: the same tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from headrace.settings import load
from ingestion.generate import generate
from ingestion.ingest import ingest
from tests import fresh
from tests.stream_workers.harness import Rig
from topology import FileSource


@pytest.mark.parametrize("first", ["csv", "json"])
@pytest.mark.parametrize("form", ["avro", "json"])
def test_files_of_two_formats_out_of_order(
    rig: Rig, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, first: str
) -> None:
    monkeypatch.setenv("TEST_JSON", "1" if form == "json" else "")
    monkeypatch.setenv("TEST_TOPIC", rig.topic)
    (topic,) = fresh.load().topics.values()
    landing = tmp_path / "landing"
    made = generate(landing, events=3000, bad=0.02, seed=seed, days=3)
    sources = [
        FileSource("test_csv", topic=topic, path="orders/*.csv", format="csv"),
        FileSource("test_json", topic=topic, path="orders/*.jsonl", format="json"),
    ]
    settings = load().model_copy(update={"landing": landing})
    report = ingest(sources if first == "csv" else sources[::-1], settings)
    assert report.produced + report.rejected == made.rows == 3000
    worker = rig.start(TEST_JSON="1" if form == "json" else "")
    rig.wait(rig.level)
    assert (
        rig.query("select sum(consumed - control)::int from ledger.positions group by table_version")
        == [(report.produced,)] * 2
    )
    letters = dict(
        rig.query(
            "select reason, count(distinct record_id)::int from ledger.dead_letters where"
            " table_version like 'product_sales@%%' group by reason"
        )
    )
    rejected = ("wrong_type", "bad_enum", "missing_column", "missing_value")
    judged = {reason: count for reason, count in made.dead_letters.items() if reason not in rejected}
    assert letters == judged
    assert set(rig.query('select "customerId", "orders", "totalAmount" from customer_order_totals')) == _totals(landing)
    assert rig.stop(worker) == 0


def _totals(landing: Path) -> set[tuple[Any, ...]]:
    """Orders and amount per customer by a query over the files."""
    db = duckdb.connect()
    db.execute("set TimeZone = 'UTC'")
    names = ("orderId", "customerId", "productId", "quantity", "orderAmount", "orderTimestamp", "status")
    files, columns = landing / "orders", dict.fromkeys(names, "VARCHAR")
    return set(
        db.execute(
            f"""with lines as (
                select * from read_csv('{files}/*.csv', columns = {columns}, header = true, auto_detect = false,
                  delim = ',', null_padding = true)
                union all by name
                select * from read_json('{files}/*.jsonl', columns = {columns}, format = 'newline_delimited')
            )
            select "customerId", count(*), sum(cast("orderAmount" as decimal(18, 2)))
              from lines
             where try_cast(quantity as int) is not null and "productId" is not null
               and status in ('COMPLETED', 'FAILED', 'PENDING')
               and try_cast("orderAmount" as double) > 0 and isfinite(try_cast("orderAmount" as double))
               and try_cast("orderTimestamp" as timestamptz) is not null
             group by all"""
        ).fetchall()
    )
