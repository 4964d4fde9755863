"""A topic that is deleted and made again: never taken for the one that has the files, and the way out of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import psycopg
import pytest
from click.testing import CliRunner
from confluent_kafka import Message
from confluent_kafka.admin import AdminClient

from cli.main import headrace
from headrace.deadline import Deadline
from headrace.errors import LedgerBehindKafka, Terminal, TopicRecreated
from headrace.failpoint import FailpointError, Failpoints
from headrace.settings import settings as process_settings
from ingestion.ingest import ingest
from ingestion.provision import provision
from ingestion.records import RawRecord, ingest_records
from ingestion.topics import TopicIds
from ledger.files import Claimed
from tests.ingestion.conftest import HEADER, Site, order
from tests.ingestion.test_exactly_once import BAD, ROWS, check, write

Read = Callable[[Site], list[Message]]


def delete(site: Site, admin: AdminClient) -> None:
    admin.delete_topics([site.topic.name])[site.topic.name].result(30)
    ids, deadline = TopicIds(site.settings), Deadline.after(120)
    while ids.now(site.topic.name) is not None:
        assert not deadline.passed()
        time.sleep(0.05)


def forget(site: Site, *options: str, answer: str = "") -> tuple[int, str]:
    """The command as typed; exit code and output. The fixture `database` has put its ledger into the environment."""
    process_settings.cache_clear()
    done = CliRunner().invoke(headrace, ["ingest", "--forget", site.topic.name, *options], input=answer)
    return done.exit_code, done.output + repr(done.exception)


def test_a_recreated_topic_gets_its_files_by_the_command_that_the_error_names(
    site: Site, read: Read, kafka_admin: AdminClient
) -> None:
    write(site)
    ingest(site.csv, site.settings)
    before = TopicIds(site.settings).now(site.topic.name)
    with psycopg.connect(site.settings.need_postgres()) as db:
        assert db.execute("select topic_id from ledger.files").fetchall() == [(before,)]
    delete(site, kafka_admin)
    provision(site.settings, [site.topic])  # as `headrace provision` or another program
    with pytest.raises(TopicRecreated, match="was deleted and created again") as caught:
        ingest(site.csv, site.settings)
    assert f"`headrace ingest --forget {site.topic.name}`" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert read(site) == []
    code, output = forget(site, "--yes")
    assert (code, "forgot 1 files" in output) == (0, True), output
    ingest(site.csv, site.settings)
    check(site, read)
    assert ingest(site.csv, site.settings).files[0].skipped


def test_a_deleted_topic_is_not_made_again_in_silence(site: Site, read: Read, kafka_admin: AdminClient) -> None:
    write(site)
    ingest(site.csv, site.settings)
    delete(site, kafka_admin)
    with pytest.raises(TopicRecreated, match=rf"topic {site.topic.name} was deleted; 1 files"):
        ingest(site.csv, site.settings)
    assert TopicIds(site.settings).now(site.topic.name) is None
    assert forget(site, "--yes")[0] == 0
    ingest(site.csv, site.settings)
    check(site, read)


def test_a_new_file_does_not_hide_that_the_others_are_gone(site: Site, read: Read, kafka_admin: AdminClient) -> None:
    site.write("a.csv", HEADER, order(1))
    ingest(site.csv, site.settings)
    (site.landing / "a.csv").unlink()
    delete(site, kafka_admin)
    provision(site.settings, [site.topic])
    site.write("b.csv", HEADER, order(2))
    with pytest.raises(TopicRecreated):
        ingest(site.csv, site.settings)
    assert read(site) == []


def test_an_unfinished_file_does_not_go_on_in_another_topic(site: Site, read: Read, kafka_admin: AdminClient) -> None:
    write(site)
    with pytest.raises(FailpointError):
        ingest(site.csv, site.settings, failpoints=Failpoints("produced:raise:3"))
    delete(site, kafka_admin)
    provision(site.settings, [site.topic])
    with pytest.raises(TopicRecreated):
        ingest(site.csv, site.settings)
    assert read(site) == []
    assert forget(site, "--yes")[0] == 0
    ingest(site.csv, site.settings)
    check(site, read)


def test_records_sent_straight_to_a_recreated_or_missing_topic(
    site: Site, read: Read, kafka_admin: AdminClient
) -> None:
    records = [RawRecord(b"k", b"v")]
    with pytest.raises(Terminal, match=r"does not exist; nothing was produced; run `headrace provision`"):
        ingest_records(site.topic, records, "raw", site.settings)
    provision(site.settings, [site.topic])
    ingest_records(site.topic, records, "raw", site.settings)
    delete(site, kafka_admin)
    provision(site.settings, [site.topic])
    with pytest.raises(TopicRecreated):
        ingest_records(site.topic, records, "raw", site.settings)
    assert read(site) == []


def test_rows_from_before_the_ledger_kept_topic_ids_are_adopted(site: Site, kafka_admin: AdminClient) -> None:
    write(site)
    ingest(site.csv, site.settings)
    with psycopg.connect(site.settings.need_postgres()) as db:
        db.execute("update ledger.files set topic_id = null, intended_at = null")
    assert ingest(site.csv, site.settings).files[0].skipped
    delete(site, kafka_admin)
    with pytest.raises(TopicRecreated):
        ingest(site.csv, site.settings)


def test_the_way_out_of_a_restored_ledger(site: Site, read: Read, kafka_admin: AdminClient) -> None:
    write(site)
    ingest(site.csv, site.settings)
    with psycopg.connect(site.settings.need_postgres()) as db:
        db.execute("update ledger.files set state = 'started', position = 50, next_position = 100")
    with pytest.raises(LedgerBehindKafka, match=r"delete topic .* run `headrace ingest --forget"):
        ingest(site.csv, site.settings)
    delete(site, kafka_admin)
    assert forget(site, "--yes")[0] == 0
    ingest(site.csv, site.settings)
    check(site, read)


def test_forgetting_one_topic_leaves_the_same_content_in_another(
    site: Site, read: Read, kafka_admin: AdminClient
) -> None:
    write(site)
    other = replace(site.topic, name=f"{site.topic.name}-other")
    with pytest.raises(FailpointError):  # unfinished: its position in the group both share still matters
        ingest(replace(site.csv, topic=other), site.settings, failpoints=Failpoints("mirrored:raise:2"))
    ingest(site.csv, site.settings)
    delete(site, kafka_admin)
    assert forget(site, "--yes")[0] == 0
    ingest([site.csv, replace(site.csv, topic=other)], site.settings)
    for one in (site, replace(site, topic=other)):
        lines = [message for message in read(one) if message.value() is not None]
        assert len(lines) == ROWS - len(BAD)


def test_forgetting_asks_and_says_what_would_be_twice(site: Site, read: Read) -> None:
    site.write("a.csv", HEADER, order(1))
    ingest(site.csv, site.settings)
    code, output = forget(site, answer="n\n")
    assert code != 0 and "1 of them went into the topic as it is now" in output
    assert ingest(site.csv, site.settings).files[0].skipped
    assert forget(site, answer="y\n")[0] == 0
    assert ingest(site.csv, site.settings).new_records == 1
    assert len([message for message in read(site) if message.value() is not None]) == 2
    again = forget(site, "--json", "--yes")
    assert '"forgotten": 1' in again[1]
    code, output = forget(site, "--yes")
    assert code != 0 and "has no files of topic" in output


def test_a_file_that_is_being_ingested_is_not_forgotten(site: Site) -> None:
    write(site)
    seen: list[str] = []

    def meanwhile() -> None:
        seen.append(forget(site, "--yes")[1])

    points = Failpoints("intended:meanwhile:2")
    points.on("meanwhile", meanwhile)
    ingest(site.csv, site.settings, failpoints=points)
    assert len(seen) == 1 and Claimed.__name__ in seen[0]
    assert ingest(site.csv, site.settings).files[0].skipped
