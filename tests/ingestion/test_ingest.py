"""Files and records into a real topic: what is in the records, what is refused, what is reported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import psycopg
import pytest
from confluent_kafka import Message
from confluent_kafka.admin import AdminClient, NewPartitions

from headrace.errors import SchemaIncompatible, UsageError
from ingestion.generate import BROKEN_KINDS, broken_records, generate
from ingestion.ingest import IngestFailed, ingest
from ingestion.produce import produce
from ingestion.provision import provision
from ingestion.records import RawRecord, ingest_records
from schemas import avro, codec
from schemas.registry import Registry
from tests.ingestion.conftest import HEADER, Site, headers, order
from topology import FileSource

Read = Callable[[Site], list[Message]]


def decoded(site: Site, messages: list[Message]) -> list[dict[str, object]]:
    registry = Registry(site.settings.need_registry(), site.settings.registry_config)
    values = [message.value() for message in messages if message.value() is not None]
    found = codec.Decoder(avro.load(site.topic.schema), registry.schema).decode(values)
    assert not found.failures
    rows: list[dict[str, object]] = found.frame.to_pylist()
    return rows


def data(messages: list[Message]) -> list[Message]:
    return [message for message in messages if message.value() is not None]


def test_records_of_csv_and_json(site: Site, read: Read) -> None:
    site.write("a.csv", HEADER, order(1), order(2, orderAmount="NaN"), order(3, orderTimestamp="soon"))
    site.write(
        "b.jsonl",
        '{"orderId":"j","customerId":"c1","productId":"p","quantity":1,"orderAmount":-1,'
        '"orderTimestamp":"2026-01-03T00:00:00+02:00","status":"FAILED"}',
        "{",
    )
    report = ingest([site.csv, site.json], site.settings)
    assert [(f.name, f.rows, f.produced, f.rejected) for f in report.files] == [
        ("a.csv", 3, 3, 0),
        ("b.jsonl", 2, 1, 1),
    ]
    messages = read(site)
    rows = {str(row["orderId"]): row for row in decoded(site, messages)}
    assert rows.keys() == {"o1", "o2", "o3", "j"}
    assert rows["j"]["orderAmount"] == -1.0
    where = [(headers(m)["file"], headers(m)["line"], m.key()) for m in data(messages)]
    assert sorted(where) == [
        (b"a.csv", b"2", b"c1"),
        (b"a.csv", b"3", b"c2"),
        (b"a.csv", b"4", b"c3"),
        (b"b.jsonl", b"1", b"c1"),
    ]
    markers = {headers(m)["event-time"] for m in messages if m.value() is None}
    assert markers == {b"1767312001000000", b"1767391200000000"}  # the first order and the JSON one: NaN is not valid


def test_an_impossible_time_moves_no_marker(site: Site, read: Read) -> None:
    times = ["2025-12-31T23:59:59Z", "2099-01-01T00:00:00Z", "2026-01-05T00:00:00", "2026-01-04T00:00:00Z", "never"]
    site.write("a.csv", HEADER, *(order(n, orderTimestamp=time) for n, time in enumerate(times)))
    ingest(site.csv, site.settings)
    markers = {headers(m)["event-time"] for m in read(site) if m.value() is None}
    assert markers == {b"1767484800000000"}


def test_an_order_that_a_worker_refuses_moves_no_marker(site: Site, read: Read) -> None:
    topic = replace(site.topic, require={"positive": "orderAmount > 0"})
    amounts = {"2026-01-03": "9.50", "2026-01-04": "-1", "2026-01-05": "NaN", "2026-01-06": "Infinity"}
    site.write(
        "a.csv",
        HEADER,
        *(order(1, orderAmount=amount, orderTimestamp=f"{day}T00:00:00Z") for day, amount in amounts.items()),
    )
    report = ingest(replace(site.csv, topic=topic), site.settings)
    assert report.produced == 4
    markers = {headers(m)["event-time"] for m in read(site) if m.value() is None}
    assert markers == {b"1767398400000000"}  # 2026-01-03


def test_a_file_without_any_valid_time_has_no_marker(site: Site, read: Read) -> None:
    site.write("a.csv", HEADER, order(1, orderTimestamp="never"))
    site.write("b.csv", HEADER)
    report = ingest(site.csv, site.settings)
    assert [f.produced for f in report.files] == [1, 0]
    assert len(read(site)) == 1
    assert all(f.skipped for f in ingest(site.csv, site.settings).files)


def test_keys_go_where_java_clients_send_them(site: Site, read: Read) -> None:
    hashes = {  # org.apache.kafka.common.utils.UtilsTest.testMurmur2
        "21": -973932308,
        "foobar": -790332482,
        "a-little-bit-long-string": -985981536,
        "a-little-bit-longer-string": -1486304829,
        "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
        "abc": 479470107,
    }
    site.write("a.csv", HEADER, *(order(1, customerId=key) for key in hashes))
    ingest(site.csv, site.settings)
    found = {(m.key() or b"").decode(): m.partition() for m in data(read(site))}
    assert found == {key: (value & 0x7FFFFFFF) % site.topic.partitions for key, value in hashes.items()}


def test_a_rejected_line_is_a_dead_letter_with_its_bytes(site: Site) -> None:
    line = order(1, customerId="ü", quantity="two").encode("latin-1")
    site.write("a.csv", HEADER, line, end=b"\r\n")
    report = ingest(site.csv, site.settings)
    with psycopg.connect(site.settings.need_postgres()) as db:
        rows = db.execute(
            "select topic, partition, file_hash, file_name, line, payload, reason, table_version "
            "from ledger.dead_letters join ledger.dead_letter_records using (record_id)"
        ).fetchall()
    assert rows == [(site.topic.name, None, report.files[0].content_hash, "a.csv", 2, line, "not_utf8", "ingest")]


def test_the_same_content_under_another_name_goes_in_once(site: Site, read: Read) -> None:
    site.write("a.csv", HEADER, order(1))
    site.write("b.csv", HEADER, order(1))
    assert [f.skipped for f in ingest(site.csv, site.settings).files] == [False, True]
    assert len(data(read(site))) == 1


def test_a_file_that_cannot_be_read_does_not_keep_the_others(site: Site, read: Read) -> None:
    site.write("a.csv", "orderId,quantity")
    (site.landing / "b.csv").mkdir()
    (site.landing / "c.csv").touch()
    site.write("d.csv", HEADER, order(1))
    with pytest.raises(IngestFailed, match=r'a\.csv: the header has no column "customerId".*2 more') as caught:
        ingest(site.csv, site.settings)
    assert "\n" not in str(caught.value)
    assert caught.value.report.new_records == 1
    assert len(data(read(site))) == 1


def test_no_landing_folder(site: Site) -> None:
    with pytest.raises(UsageError, match="does not exist; make it"):
        ingest(site.csv, site.settings.model_copy(update={"landing": site.landing / "none"}))


def test_provisioning_twice_and_drift(site: Site, kafka_admin: AdminClient) -> None:
    assert provision(site.settings, [site.topic]).topics[0].state == "created"
    assert provision(site.settings, [site.topic]).topics[0].state == "ok"
    kafka_admin.create_partitions([NewPartitions(site.topic.name, 5)])[site.topic.name].result(30)
    report = provision(site.settings, [replace(site.topic, retention="7 days")])
    assert report.topics[0].state == "drift"
    assert "3 partitions are declared and Kafka has 5" in report.drift[0]
    assert "retention.ms=604800000 is declared and Kafka has -1" in report.drift[1]


def test_an_incompatible_schema_stops_everything_before_the_first_record(site: Site, read: Read) -> None:
    old = avro.parse('{"type":"record","name":"OrderCreated","fields":[{"name":"other","type":"string"}]}')
    provision(site.settings, [replace(site.topic, name=f"{site.topic.name}-x")])
    Registry(site.settings.need_registry()).register(f"{site.topic.name}-value", old)
    site.write("a.csv", HEADER, order(1))
    with pytest.raises(SchemaIncompatible):
        ingest(site.csv, site.settings)


def test_records_sent_straight_to_the_topic_go_once(site: Site, read: Read) -> None:
    schema_id = provision(site.settings, [site.topic]).schema_ids[site.topic.name]
    records = broken_records(avro.load(site.topic.schema), schema_id, partitions=3, each=20)
    first = ingest_records(site.topic, records, "broken", site.settings)
    assert (first.new_records, first.skipped) == (20 * len(BROKEN_KINDS), False)
    second = ingest_records(site.topic, records, "broken", site.settings)
    assert (second.new_records, second.skipped) == (0, True)
    messages = read(site)
    assert len(messages) == len(records)
    assert {m.partition() for m in messages} == {0, 1, 2}
    registry = Registry(site.settings.need_registry())
    found = codec.Decoder(avro.load(site.topic.schema), registry.schema).decode([m.value() for m in messages])
    kinds = [headers(m)["broken"].decode() for m in messages]
    assert [failure.reason for failure in found.failures] == [BROKEN_KINDS[kind] for kind in kinds]


def test_raw_records_keep_key_value_and_headers(site: Site, read: Read) -> None:
    provision(site.settings, [site.topic])
    ingest_records(site.topic, [RawRecord(None, None, 2, (("h", b"x"),)), RawRecord(b"k", b"")], "raw", site.settings)
    found = sorted(((m.key(), m.value(), m.headers()) for m in read(site)), key=lambda one: one[0] or b"")
    assert found[0] == (None, None, [("file", b"raw"), ("line", b"1"), ("h", b"x")])
    assert found[1] == (b"k", b"", [("file", b"raw"), ("line", b"2")])


def test_generated_files_have_what_the_manifest_says(site: Site, read: Read) -> None:
    manifest = generate(site.landing, events=3_000, bad=0.02, seed=5, days=2)
    sources = [
        FileSource("c", topic=site.topic, path="orders/*.csv", format="csv"),
        FileSource("j", topic=site.topic, path="orders/*.jsonl", format="json"),
    ]
    report = ingest(sources, site.with_settings(transaction_records=500).settings)
    assert sum(file.rows for file in report.files) == manifest.rows == 3_000
    assert report.rejected == manifest.rejected_lines > 0
    by_name = {file.name: file for file in report.files}
    for file in manifest.files:
        assert by_name[file.name].rows == file.rows
    assert len(data(read(site))) == manifest.rows - manifest.rejected_lines


def test_produce(site: Site, read: Read) -> None:
    seen: list[int] = []
    report = produce(site.topic, site.settings, events=120, bad=0.05, seed=3, progress=seen.append)
    assert report.produced == 120
    assert sum(report.bad.values()) == 6
    assert seen == [50, 100, 120]
    messages = read(site)
    assert len(data(messages)) == 120
    assert len(messages) == 120 + site.topic.partitions
    rows = decoded(site, messages)
    assert sum(row["orderTimestamp"] == "yesterday at noon" for row in rows) == 2
