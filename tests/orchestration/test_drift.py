"""`schema_drift`: planted differences in Kafka, registry and Postgres, each named by the right check."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, ResourceType
from dagster import AssetCheckEvaluation, AssetCheckSeverity, DagsterInstance, Definitions

from orchestration import code, drift, drift_checks, keys, tables, topics
from schemas import avro
from schemas.registry import Registry, subject_of
from tests.catalogs import orders as declarations
from tests.conftest import Services
from tests.orchestration import pipeline
from tests.stream_workers.harness import Rig
from topology.compile import compile_pipeline

VIEW = [
    ("productId", "text"),
    ("windowStart", "timestamp with time zone"),
    ("windowEnd", "timestamp with time zone"),
    ("salesAmount", "numeric(38,2)"),
    ("orders", "bigint"),
]
PROGRAM = compile_pipeline("orders", declarations.orders, [declarations.product_sales], place="orders").tables[0]

NOWHERE = code.Place(Path(__file__), 1)


def lines(found: list[tuple[str, str]]) -> tuple[str, ...]:
    return drift.of_table(PROGRAM, PROGRAM.version_id, found).lines


def test_the_view_is_compared_column_by_column() -> None:
    assert lines(VIEW) == ()
    assert ['"orders" is declared and missing' in line for line in lines(VIEW[:-1])] == [True]
    assert ['"extra" (text) is not declared' in line for line in lines([*VIEW, ("extra", "text")])] == [True]
    assert ["bigint and is integer" in line for line in lines([*VIEW[:-1], ("orders", "integer")])] == [True]
    assert ["another order" in line for line in lines([*VIEW[:-2], VIEW[-1], VIEW[-2]])] == [True]
    assert lines([*VIEW[:3], ("salesAmount", "numeric"), VIEW[4]]) == (), "an aggregate drops the modifier"
    assert len(lines([*VIEW[:3], ("salesAmount", "numeric(38,3)"), VIEW[4]])) == 1
    for version, view in (("product_sales@000000000000", VIEW), (PROGRAM.version_id, None)):
        found = drift.of_table(PROGRAM, version, view)
        assert found.rebuild and "`headrace pipeline rebuild orders`" in found.lines[0]
    assert drift.of_table(PROGRAM, None, None) == drift.TableDrift((), built=False)


def test_planted_drift_turns_the_right_checks(
    stack: Services, database: str, topic_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pipeline.running(stack, database, f"{topic_name}-orders", tmp_path) as rig:
        catalog = pipeline.catalog(rig, monkeypatch)
        defs = Definitions(
            assets=[
                *(tables.asset(table, "orders", NOWHERE) for table in catalog.tables.values()),
                *(topics.asset(topic, [], NOWHERE) for topic in catalog.topics.values()),
            ],
            asset_checks=drift_checks.checks(catalog),
            jobs=drift_checks.jobs(catalog),
            schedules=drift_checks.schedules(catalog),
        )
        assert defs.resolve_schedule_def("schema_drift_hourly").job_name == "schema_drift"
        topic = keys.topic_key(rig.topic).to_user_string()
        sales, totals = (keys.table_key(name).to_user_string() for name in ("product_sales", "customer_order_totals"))

        _as_declared(rig)
        first = _evaluations(defs)
        assert all(one.passed for one in first.values()) and set(first) == {topic, sales, totals}
        assert "no worker has built" in (first[sales].description or "")
        rig.produce(1, 200)
        pipeline.consume(rig)
        assert all(one.passed and one.description == "as declared" for one in _evaluations(defs).values())

        _plant(rig, stack)
        found = _evaluations(defs)
        assert not any(one.passed for one in found.values())
        assert found[topic].severity == found[sales].severity == AssetCheckSeverity.WARN
        listed = str(found[topic].metadata["drift"].value)
        for part in ("Kafka has 3", "retention.ms=-1", "cleanup.policy=delete", "differ in note"):
            assert part in listed, listed
        assert '"extra" (integer) is not declared' in (found[sales].description or "")
        assert found[totals].severity == AssetCheckSeverity.ERROR
        assert "`headrace pipeline rebuild orders`" in (found[totals].description or "")
        assert rig.admin.list_topics(timeout=20).topics[rig.topic].partitions.keys() == {0, 1, 2}, "nothing is altered"

        monkeypatch.setenv("HEADRACE_REGISTRY_URL", "http://127.0.0.1:9")
        down = _evaluations(defs)[topic]
        assert not down.passed and "does not answer" in (down.description or "")


def _as_declared(rig: Rig) -> None:
    """The harness makes topics with the broker's retention and registers a schema without its documentation's form."""
    _configure(rig, {"retention.ms": "-1", "cleanup.policy": "delete"})


def _plant(rig: Rig, stack: Services) -> None:
    rig.admin.create_partitions([NewPartitions(rig.topic, 3)])[rig.topic].result()
    _configure(rig, {"retention.ms": "1000000000", "cleanup.policy": "compact"})
    declared = avro.load("orders/order_created.avsc").parsed
    note = {"name": "note", "type": ["null", "string"], "default": None}
    changed = {**declared, "fields": [*declared["fields"], note]}
    Registry(stack.registry_url).register(subject_of(rig.topic), avro.parse(json.dumps(changed)))
    with psycopg.connect(rig.database) as db:  # a live version of another declaration, as after an edit
        view = rig.query("select pg_get_viewdef('public.product_sales'::regclass)")[0][0].rstrip(";")
        db.execute(f"create or replace view public.product_sales as select x.*, 1 as extra from ({view}) x".encode())
        db.execute("delete from ledger.table_versions where table_name = 'customer_order_totals'")
        db.execute(
            "insert into ledger.table_versions (table_version, table_name, pipeline, state_table, definition)"
            " values ('customer_order_totals@000000000000', 'customer_order_totals', 'orders', 'state.x', '{}')"
        )


def _configure(rig: Rig, values: dict[str, str]) -> None:
    entries = [ConfigEntry(n, v, incremental_operation=AlterConfigOpType.SET) for n, v in values.items()]
    resource = ConfigResource(ResourceType.TOPIC, rig.topic, incremental_configs=entries)
    rig.admin.incremental_alter_configs([resource])[resource].result()


def _evaluations(defs: Definitions) -> dict[str, AssetCheckEvaluation]:
    with DagsterInstance.ephemeral() as instance:
        done = defs.resolve_job_def("schema_drift").execute_in_process(instance=instance, raise_on_error=False)
        return {one.asset_key.to_user_string(): one for one in done.get_asset_check_evaluations()}


def test_a_numeric_keeps_its_scale_in_comparisons() -> None:
    program = replace(PROGRAM, columns=PROGRAM.columns[-2:-1])
    assert drift.of_table(program, program.version_id, [("salesAmount", "text")]).lines
