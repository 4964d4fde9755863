"""Expectations as Dagster runs them: on tables that a real worker filled, then with faults planted by hand."""

from __future__ import annotations

import random
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from confluent_kafka import TopicPartition
from dagster import (
    AssetCheckEvaluation,
    AssetCheckSeverity,
    AssetSelection,
    DagsterInstance,
    Definitions,
    asset,
    define_asset_job,
    in_process_executor,
)

from assets.catalog import Catalog
from orchestration import code, keys, quality, quality_suite, tables
from tests import fresh
from tests.conftest import Services
from tests.stream_workers import orders
from tests.stream_workers.harness import Rig
from tests.stream_workers.orders import Message
from topology import Between, Expect, Holds, InSet, NotNull, Unique
from topology.check_expect import compile_expects

ALL = {
    "customer_order_totals": {
        "customer_stored_once",
        "total_known",
        "total_not_negative",
        "average_between",
        "smallest_not_negative",
    },
    "product_sales": {"sales_not_negative", "window_aligned", "few_orders"},
}
CHECKS = {(table, name) for table, names in ALL.items() for name in names}
WARNINGS = {("customer_order_totals", "smallest_not_negative"), ("product_sales", "few_orders")}
Found = dict[tuple[str, str], AssetCheckEvaluation]


NOWHERE = code.Place(Path(__file__), 1)


@dataclass
class Run:
    """A finished run: its evaluations by table and check, whether it succeeded, everything that was logged."""

    found: Found
    success: bool
    logged: str
    ran: set[str]

    @property
    def red(self) -> set[tuple[str, str]]:
        return {key for key, one in self.found.items() if not one.passed}


@dataclass
class Shop:
    """The rig, its catalog, and the home in which Data Docs are built."""

    rig: Rig
    home: Path
    catalog: Catalog

    @property
    def docs(self) -> Path:
        return self.home / "quality" / "orders"

    def definitions(self, *more: Any) -> Definitions:
        return Definitions(
            assets=[*(tables.asset(t, "orders", NOWHERE) for t in self.catalog.tables.values()), *more],
            asset_checks=quality.checks(self.catalog),
            jobs=[*quality.jobs(self.catalog), *_jobs_of(more)],
            schedules=quality.schedules(self.catalog),
            executor=in_process_executor,
        )

    def run(self, *more: Any, only: set[tuple[str, str]] | None = None) -> Run:
        job = self.definitions(*more).resolve_job_def("with_downstream" if more else "quality_orders")
        selected = None
        if only is not None:
            wanted = {(keys.table_key(table), name) for table, name in only}
            selected = [k for k in job.asset_layer.asset_graph.asset_check_keys if (k.asset_key, k.name) in wanted]
            job = job.get_subset(asset_selection=set(), asset_check_selection=set(selected))
        with DagsterInstance.ephemeral() as instance:
            result = job.execute_in_process(instance=instance, raise_on_error=False)
            logged = "\n".join(str(entry) for entry in instance.all_logs(result.run_id))
            found = {(e.asset_key.path[-1], e.check_name): e for e in result.get_asset_check_evaluations()}
            ran = {"/".join(e.asset_key.path) for e in result.get_asset_materialization_events() if e.asset_key}
        return Run(found, result.success, logged, ran)

    def with_expectations(self, *expects: Expect) -> Shop:
        compiled = compile_expects([("tests/shop.py", one) for one in expects], self.catalog.tables)
        return replace(self, catalog=replace(self.catalog, expectations=compiled))

    def table(self, name: str) -> Any:
        return self.catalog.tables[name].table

    def state(self, table: str) -> str:
        return self.catalog.tables[table].state_table


def _jobs_of(more: tuple[Any, ...]) -> list[Any]:
    if not more:
        return []
    selection = AssetSelection.assets(*more) | AssetSelection.checks_for_assets(keys.table_key("customer_order_totals"))
    return [define_asset_job("with_downstream", selection)]


@pytest.fixture
def shop(
    stack: Services, database: str, topic_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Shop]:
    monkeypatch.setenv("TEST_TOPIC", f"{topic_name}-orders")
    monkeypatch.setenv("TEST_PARTITIONS", "4")
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    (tmp_path / "logs").mkdir()
    rig = Rig(stack, database, f"{topic_name}-orders", tmp_path / "logs")
    try:
        yield Shop(rig, tmp_path / "home", fresh.load())
    finally:
        rig.close()


def fill(shop: Shop, seed: int, **environment: str) -> None:
    """Two batches' worth of orders, taken by a worker of its own."""
    shop.rig.produce(seed, 2000)
    worker = shop.rig.start(HEADRACE_BATCH_RECORDS="200", **environment)
    shop.rig.wait(shop.rig.level)
    assert shop.rig.stop(worker) == 0


def metadata(found: AssetCheckEvaluation) -> dict[str, Any]:
    return {name: value.value for name, value in found.metadata.items()}


def offset_of(rig: Rig, key: bytes) -> tuple[int, int]:
    """Partition and offset of the only record with this key."""
    consumer = rig._reader()
    consumer.assign([TopicPartition(rig.topic, p, 0) for p in range(rig.partitions)])
    found, ended = [], 0
    while ended < rig.partitions:
        for message in consumer.consume(10_000, 1.0):
            if message.error() is not None:
                ended += 1
            elif message.key() == key:
                found.append((message.partition(), message.offset()))
    consumer.close()
    ((partition, offset),) = found
    assert partition is not None and offset is not None
    return partition, offset


def covers(rig: Rig, ranges: list[str], partition: int, offset: int) -> bool:
    """Whether one of the ranges holds the offset; every range must be of this topic."""
    matches = [re.fullmatch(rf"{re.escape(rig.topic)}\[(\d+)\]@(\d+)-(\d+)", one) for one in ranges]
    spans = [tuple(map(int, match.groups())) for match in matches if match]
    assert len(spans) == len(ranges)
    return any(p == partition and first <= offset <= last for p, first, last in spans)


def written(folder: Path) -> str:
    return "\n".join(file.read_text(errors="replace") for file in folder.rglob("*") if file.is_file())


def test_green_then_a_key_written_twice_by_hand_turns_one_check_red(
    shop: Shop, seed: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    fill(shop, seed)
    called: list[Any] = []
    connect = socket.socket.connect

    def note(self: socket.socket, to: Any) -> None:
        called.append(to)
        connect(self, to)

    monkeypatch.setattr(socket.socket, "connect", note)
    green = shop.run()
    monkeypatch.setattr(socket.socket, "connect", connect)
    assert called == [], "Great Expectations sends nothing to anyone"
    assert green.success and set(green.found) == CHECKS and green.red == set()
    counts = {table: shop.rig.query(f"select count(*)::int from {table}")[0][0] for table in ALL}
    for (table, _), one in green.found.items():
        assert (metadata(one)["rows"], metadata(one)["failing rows"]) == (counts[table], 0)
        assert counts[table] > 100

    # A row of shard 0, whose key the records' partitioner sends there, appears under shard 1 as well.
    state = shop.state("customer_order_totals")
    [(customer,)] = shop.rig.query(f'select min("customerId") from {state} where shard = 0')
    columns = ", ".join(f'"{c.name}"' for c in shop.catalog.tables["customer_order_totals"].states)
    shop.rig.query(
        f'insert into {state} ("customerId", shard, {columns}) select "customerId", 1, {columns}'
        f' from {state} where "customerId" = %s returning 1',
        customer,
    )
    planted = shop.run()
    assert planted.red == {("customer_order_totals", "customer_stored_once")}
    assert not planted.success, "critical: the step fails"
    red = planted.found["customer_order_totals", "customer_stored_once"]
    said = metadata(red)
    assert red.severity == AssetCheckSeverity.ERROR and red.blocking
    assert (said["rows"], said["failing rows"]) == (counts["customer_order_totals"] + 1, 2)
    assert [(one["key"], one["shards"]) for one in said["failing"]] == [({"customerId": customer}, [s]) for s in (0, 1)]
    for shard, one in enumerate(said["failing"]):
        [(first, last)] = shop.rig.query(
            "select min(from_offset), max(to_offset) - 1 from ledger.batch_index"
            " where table_version like 'customer_order_totals@%%' and shard = %s",
            shard,
        )
        assert one["offsets"] == [f"{shop.rig.topic}[{shard}]@{first}-{last}"]
    assert f"| {customer} | 0 | {shop.rig.topic}[0]@" in said["examples"]

    page = Path(said["data docs"])
    assert page.is_file() and page.is_relative_to(shop.docs) and "customer_stored_once" in unescape(page.read_text())
    assert (shop.docs / "docs" / "index.html").is_file()
    password = urlsplit(shop.rig.database).password or ""
    out = capfd.readouterr()
    everywhere = written(shop.docs) + green.logged + planted.logged + out.out + out.err
    assert len(password) > 8 and "customer_stored_once" in everywhere
    assert password not in everywhere and unquote(password) not in everywhere


def test_a_negative_amount_let_through_is_shown_with_its_key_and_offsets(
    shop: Shop, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_ANY_AMOUNT", "1")
    shop.catalog = fresh.load()
    record = orders.order(random.Random(seed), 10**6) | {
        "customerId": "refund",
        "productId": "returned",
        "orderAmount": -5.0,
        "status": "COMPLETED",
    }
    value = orders.encode(shop.rig.schema_id, record)
    shop.rig.produce(seed + 1, 1000)
    shop.rig.send([Message("good", b"refund", value, record)])
    fill(shop, seed)
    partition, offset = offset_of(shop.rig, b"refund")
    # What a killed restatement leaves behind, a row of another generation, is nobody's.
    columns = ", ".join(f'"{c.name}"' for c in shop.catalog.tables["product_sales"].states)
    shop.rig.query(
        f'insert into {shop.state("product_sales")} ("productId", window_start, gen, shard, {columns})'
        f' select "productId", window_start, 1, (shard + 1) %% 4, {columns} from {shop.state("product_sales")}'
        ' where "productId" = %s returning 1',
        "returned",
    )

    run = shop.run()
    totals = {("customer_order_totals", name) for name in ("total_not_negative", "smallest_not_negative")}
    assert run.red == totals | {("product_sales", "sales_not_negative")}
    for key in run.red:
        red = run.found[key]
        said = metadata(red)
        warning = key in WARNINGS
        assert red.severity == (AssetCheckSeverity.WARN if warning else AssetCheckSeverity.ERROR)
        assert red.blocking is not warning
        assert said["failing rows"] == 1
        [failing] = said["failing"]
        assert next(iter(failing["key"].values())) in ("refund", "returned")
        assert failing["shards"] == [partition]
        assert covers(shop.rig, failing["offsets"], partition, offset)
        assert not covers(shop.rig, failing["offsets"], partition, 10**9)
        assert "-5.00" in said["examples"]
    # Of a windowed table only the batches that reach into the window: fewer offsets than the shard has.
    [narrow] = metadata(run.found["product_sales", "sales_not_negative"])["failing"]
    assert narrow["key"]["windowStart"].startswith("2026-03-0")


def test_critical_blocks_what_is_downstream_and_a_warning_does_not(shop: Shop, seed: int) -> None:
    fill(shop, seed)

    @asset(deps=[keys.table_key("customer_order_totals")])
    def report() -> None:
        """Something made from the table."""

    state = shop.state("customer_order_totals")
    shop.rig.query(f'update {state} set "smallestOrder" = -1 where "customerId" = \'c1\' returning 1')
    warned = shop.run(report)
    assert warned.red == {("customer_order_totals", "smallest_not_negative")}
    assert warned.success and warned.ran == {"report"}

    shop.rig.query(f'update {state} set "totalAmount" = null where "customerId" = \'c1\' returning 1')
    blocked = shop.run(report)
    assert blocked.red - warned.red == {
        ("customer_order_totals", name) for name in ("total_known", "average_between")
    }, "the average is made from the total"
    assert not blocked.success and blocked.ran == set()


def test_every_kind_of_expectation_counts_and_shows_the_rows_that_break_it(shop: Shop, seed: int) -> None:
    fill(shop, seed)
    state = shop.state("customer_order_totals")
    shop.rig.query(f"update {state} set \"totalAmount\" = null where \"customerId\" in ('c1', 'c2') returning 1")
    shop.rig.query(f"update {state} set \"orders\" = 77000 where \"customerId\" in ('c3', 'c4', 'c5') returning 1")
    broken = shop.with_expectations(
        Expect(
            shop.table("customer_order_totals"),
            warning={
                "null": NotNull("totalAmount"),
                "many": Between("orders", 1, 76_999),
                "set": InSet("customerId", [f"c{n}" for n in range(10, 400)]),
                "alike": Unique("orders", "largestOrder"),
                "percent": Holds("orders % 77000 <> 0 and customerId not like '%c9' and '{:x}' <> customerId"),
                "refused": Holds("orders > customerId"),
            },
        ),
        Expect(
            shop.table("product_sales"),
            warning={
                "window_unique": Unique("windowStart"),
                "product_unique": Unique("productId", "orders", "salesAmount"),
                "never": Holds("orders < 0"),
            },
        ),
    )
    run = broken.run()
    assert run.success, "warnings only"
    found = {name: one for (_, name), one in run.found.items()}

    def failing(query: str) -> int:
        [(count,)] = shop.rig.query(f"select count(*)::int from {query}")
        return int(count)

    totals, sales = failing("customer_order_totals"), failing("product_sales")
    expected = {
        "null": 2,
        "many": 3,
        "set": failing('customer_order_totals where length("customerId") = 2'),
        "alike": failing(
            '(select count(*) over (partition by "orders", "largestOrder") n from customer_order_totals) x where n > 1'
        ),
        "percent": failing('customer_order_totals where "orders" = 77000 or "customerId" like \'%%c9\''),
        "window_unique": failing(
            '(select count(*) over (partition by "windowStart") n from product_sales) x where n > 1'
        ),
        "product_unique": failing(
            '(select count(*) over (partition by "productId", "orders", "salesAmount") n from product_sales) x'
            " where n > 1"
        ),
        "never": sales,
    }
    assert set(found) == {*expected, "refused"}
    assert {name: metadata(found[name])["failing rows"] for name in expected} == expected
    assert expected["window_unique"] > 20 and sales > 500, "more rows fail than are shown"
    for name, count in expected.items():
        said = metadata(found[name])
        assert found[name].passed == (count == 0)
        assert said["rows"] == (totals if name in ("null", "many", "set", "alike", "percent") else sales)
        assert len(said.get("failing", [])) == min(count, 20)
    assert [one["key"]["customerId"] for one in metadata(found["many"])["failing"]] == ["c3", "c4", "c5"]
    assert "| null |" in metadata(found["null"])["examples"]
    refused = found["refused"]
    assert not refused.passed and "operator does not exist: bigint > text" in (refused.description or "")
    assert "\n" not in (refused.description or "")
    assert (urlsplit(shop.rig.database).password or "") not in written(shop.docs)


def test_a_selection_runs_alone_and_old_runs_go(shop: Shop, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(shop, seed)
    monkeypatch.setattr(quality_suite, "KEPT", 2)
    one = ("product_sales", "window_aligned")
    assert set(shop.run(only={one}).found) == {one}
    for _ in range(3):
        assert shop.run().success
    kept = {path.name: len(list(path.iterdir())) for path in (shop.docs / "docs" / "validations").iterdir()}
    assert kept == {
        "customer_order_totals": 2,
        "customer_order_totals as stored": 2,
        "product_sales": 2,
        "product_sales (selection)": 1,
    }
    assert {path.name for path in (shop.docs / "results").iterdir() if path.is_dir()} == set(kept)
    page = shop.docs / "docs" / "index.html"
    links = {unquote(unescape(link)) for link in re.findall(r"validations/[^\"'<>\s]+\.html", page.read_text())}
    assert len(links) == sum(kept.values())
    assert [link for link in links if not (page.parent / link).is_file()] == []


def test_what_is_not_there_is_said_in_one_line(
    shop: Shop, seed: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    none = shop.run()
    assert none.red == CHECKS and not none.success
    for one in none.found.values():
        assert "is not there yet: no worker of pipeline orders has run" in (one.description or "")

    fill(shop, seed)
    monkeypatch.setenv("TEST_ANY_AMOUNT", "1")
    changed = replace(shop, catalog=fresh.load()).run()
    assert changed.red == CHECKS
    for one in changed.found.values():
        assert "headrace pipeline rebuild orders" in (one.description or "")

    address = urlsplit(shop.rig.database)
    gone = address._replace(netloc=address.netloc.replace(f":{address.port}", ":1")).geturl()
    monkeypatch.setenv("HEADRACE_POSTGRES_URL", gone)
    down = shop.run()
    assert down.found == {} and not down.success
    assert "Postgres does not answer" in down.logged and "run `headrace doctor`" in down.logged
    assert (address.password or "") not in down.logged
