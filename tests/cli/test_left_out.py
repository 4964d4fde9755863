"""Late and duplicate records from the command line: counted, read again from the topic, and replayed once each, with
workers that die meanwhile, tables that are built anew, and logs that have lost some of them."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from confluent_kafka import TopicPartition

from headrace.errors import ServiceUnavailable
from headrace.settings import Settings
from stream_workers.log import LogAdmin, TopicMissing
from stream_workers.steps import CorrectionStep
from tests.cli.test_dlq import Desk
from tests.cli.test_errors import ROOT
from tests.stream_workers import orders
from tests.stream_workers.conftest import rig
from tests.stream_workers.harness import Rig
from tests.stream_workers.orders import Message

__all__ = ["rig"]

CATALOG = {"HEADRACE_CATALOG": "tests.catalogs_dedup"}
_DAY = datetime(2026, 3, 1, tzinfo=UTC)
Sales = Counter[tuple[str, datetime]]


@pytest.fixture
def desk(rig: Rig) -> Iterator[Desk]:
    found = Desk(rig, **CATALOG)
    try:
        yield found
    finally:
        found.close()


class Shop:
    """Orders of two partitions: on the tenth day one, and after it those of the first day, which is closed by then."""

    def __init__(self, rig: Rig, seed: int) -> None:
        self.rig, self.rng, self.number = rig, random.Random(seed), 0
        self.sales, self.late = Sales(), Sales()
        self.partitions: Counter[int] = Counter()

    def send(self, partition: int, days: int, count: int, *, late: bool = False) -> list[Message]:
        made = []
        for _ in range(count):
            at = _DAY + timedelta(days=days, minutes=self.rng.randrange(600), seconds=self.rng.randrange(60))
            order = orders.order(self.rng, self.number)
            order |= {"productId": f"p{self.rng.randrange(3)}", "orderTimestamp": at.isoformat()}
            made.append(Message("good", order["customerId"].encode(), orders.encode(self.rig.schema_id, order), order))
            self.number += 1
            (self.late if late else self.sales)[order["productId"], at.replace(second=0)] += 1
        self.rig.send(made, partition)
        if late:
            self.partitions[partition] += count
        return made

    def closed(self, partition: int, late: int) -> None:
        """A day, the tenth, and late ones of the first."""
        self.send(partition, 0, 3)
        self.send(partition, 10, 1)
        self.send(partition, 0, late, late=True)

    def found(self) -> Sales:
        rows = self.rig.query('select "productId", "windowStart", orders from sales_once')
        return Counter({(product, start): number for product, start, number in rows})


def left_out(desk: Desk) -> dict[tuple[str, str], tuple[int, int, int]]:
    return {
        (one["table"], one["reason"]): (one["records"], one["open"], one["replayed"])
        for one in desk.said("list")["left_out"]
    }


def rebuild(rig: Rig, **extra: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "cli.main", "pipeline", "rebuild", "orders", "--yes"],
        env=rig.environment(**CATALOG, **extra),
        cwd=ROOT,
        check=True,
        capture_output=True,
    )


def answers(rig: Rig) -> bool:
    """Whether the partitions of the topic have their leaders."""
    try:
        LogAdmin(Settings(kafka_bootstrap=rig.stack.kafka_bootstrap)).describe(rig.topic)
    except (ServiceUnavailable, TopicMissing):
        return False
    return True


def decided(rig: Rig) -> bool:
    return rig.query("select bool_and(correction_seq >= 1) from ledger.positions where partition < 2") == [(True,)]


def test_late_records_are_replayed_once_through_kills_and_rebuilds(desk: Desk, seed: int) -> None:
    rig, shop = desk.rig, Shop(desk.rig, seed)
    shop.closed(0, 30)
    shop.closed(1, 20)
    worker = rig.start(**CATALOG)
    desk.consumed()
    assert shop.found() == shop.sales
    assert left_out(desk) == {("sales_once", "late"): (50, 50, 0)}
    assert "sales_once" in desk.run("list").stdout

    late = ("replay", "--reason", "late", "--table", "sales_once")
    would = desk.said(*late, "--dry-run")
    assert would["records"] == 50 and would["by_partition"] == {"0": 30, "1": 20} and would["gone"] == {}
    assert rig.query("select count(*) from ledger.corrections") == [(0,)]
    done = desk.run(*late)  # nobody there to answer
    assert done.returncode == 130 and "Replay 50 late records of sales_once (" in done.stderr

    rig.stop(worker)
    assert desk.said(*late, "--partition", "1", "--yes")["asked"] == 20
    assert desk.said(*late, "--yes")["asked"] == 30, "the rest"
    assert "waiting 50" in desk.run(*late, "--yes").stdout
    for step in (CorrectionStep.DECIDED, CorrectionStep.COMMITTED):
        doomed = rig.start(**CATALOG, HEADRACE_FAILPOINTS=f"{step.value}:kill")
        rig.wait(lambda: doomed.poll() is not None, alive=False)  # noqa: B023
        assert doomed.returncode == -signal.SIGKILL, rig.logs()
    rig.start(**CATALOG)
    rig.wait(lambda: left_out(desk) == {("sales_once", "late"): (50, 0, 50)})
    assert shop.found() == shop.sales + shop.late
    rig.wait(lambda: decided(rig))
    assert rig.query("select count(*) from ledger.dead_letters where state <> 'replayed'") == [(0,)]

    # Nothing is applied twice: asked again, and built anew with the same declaration and with one that waits longer.
    assert "no late record of sales_once is to be replayed (replayed 50)" in desk.run(*late, "--yes").stdout
    number = desk.ids("--reason", "late", "--partition", "1")[0]
    desk.refused("replay", str(number), "--yes", says="replayed already")
    for lateness, replayed in (("2 days", 50), ("40 days", 0)):
        rig.stop(rig.workers[-1])
        rebuild(rig, TEST_LATENESS=lateness)
        rig.start(**CATALOG, TEST_LATENESS=lateness)
        rig.wait(lambda: rig.done() and decided(rig))
        assert shop.found() == shop.sales + shop.late, lateness
        counts = "select sum(late)::int, sum(replayed)::int from ledger.positions where table_version like 'sales%%'"
        assert rig.query(counts) == [(replayed, replayed)]
    assert left_out(desk) == {} and desk.ids() == []
    rows = rig.query("select orders::int from orders_once")
    assert sum(count for (count,) in rows) == len(rig.sent.messages)


def test_a_duplicate_is_replayed_when_it_was_none(desk: Desk, seed: int) -> None:
    rig, shop = desk.rig, Shop(desk.rig, seed)
    made = shop.send(0, 0, 4)
    rig.send(made[:2], 0)
    rig.start(**CATALOG)
    desk.consumed()
    assert left_out(desk) == {(table, "duplicate"): (2, 2, 0) for table in ("orders_once", "sales_once")}
    said = desk.said("replay", "--reason", "duplicate", "--table", "sales_once", "--yes", "--wait")
    assert said["asked"] == 2 and said["outcomes"] == {"replayed": 2, "refused": 0, "waiting": 0}
    again: Sales = Counter()
    for message in made[:2]:
        assert message.order is not None
        at = datetime.fromisoformat(message.order["orderTimestamp"]).replace(second=0)
        again[message.order["productId"], at] += 1
    assert shop.found() == shop.sales + again
    assert left_out(desk)["sales_once", "duplicate"] == (2, 0, 2)
    assert left_out(desk)["orders_once", "duplicate"] == (2, 2, 0), "of the other table nobody said anything"


def test_a_log_that_has_lost_some_says_which(desk: Desk, seed: int) -> None:
    rig, shop = desk.rig, Shop(desk.rig, seed)
    shop.closed(0, 3)
    shop.send(0, 0, 2, late=True)  # in a transaction of its own, after a marker
    worker = rig.start(**CATALOG)
    desk.consumed()
    rig.stop(worker)
    offsets = [r[0] for r in rig.query('select "next_offset" from ledger.positions where partition = 0 limit 1')]
    before = offsets[0] - 3  # the last two, and the marker after them
    cut = TopicPartition(rig.topic, 0, before)
    rig.admin.delete_records([cut])[cut].result()

    late = ("replay", "--reason", "late", "--table", "sales_once")
    gone = f"3 late records of sales_once are gone from the log by retention or deletion: {rig.topic}[0]@6-8;"
    desk.refused(*late, "--yes", says=gone)
    desk.refused(*late, "--dry-run", says="`--without-gone` replays those that the log still has")
    desk.refused(*late, "--since", "2h", "--yes", says="nothing was replayed")
    assert rig.query("select count(*) from ledger.corrections") == [(0,)]
    would = desk.said(*late, "--without-gone", "--dry-run")
    assert would["records"] == 2 and would["gone"] == {"0": [6, 7, 8]}

    # Times are those of Kafka, which the log has.
    within = desk.said(*late, "--without-gone", "--since", "2h", "--dry-run")
    assert within["records"] == 2
    before_all = desk.said(*late, "--without-gone", "--until", "2h", "--dry-run")
    assert before_all["records"] == 0
    done = desk.run(*late, "--without-gone", "--yes")
    assert done.returncode == 0 and f"left out: {gone[:-1]}" in done.stdout
    assert "asked to replay 2 late records of sales_once" in done.stdout
    rig.start(**CATALOG)
    rig.wait(lambda: left_out(desk) == {("sales_once", "late"): (5, 3, 2)})
    assert sum(shop.found().values()) == sum(shop.sales.values()) + 2

    # A topic of the same name is not the same topic.
    rig.stop(rig.workers[-1])
    rig.delete_topic()
    rig.wait(lambda: rig.topic not in rig.admin.list_topics(timeout=10).topics, alive=False)
    rig.create_topic()
    rig.wait(lambda: answers(rig), alive=False)
    desk.refused(*late, "--without-gone", "--yes", says="was deleted and created again")


WRONG: list[tuple[list[str], str, int]] = [
    (["--reason", "late"], "late records are left out by one table and not by another: add --table", 2),
    (["--reason", "late", "--table", "nothing"], "no table nothing is kept by a worker", 1),
    (["--reason", "duplicate", "--table", "by_threes"], "by_threes has windows of so many records", 1),
    (["--reason", "late", "--table", "visits", "--partition", "9"], "has partitions 0 to 3; there is no 9", 1),
    (["--reason", "late", "--table", "visits", "--topic", "other"], "and not other; leave out --topic", 1),
    (["--reason", "late", "--table", "visits", "--edit", "pyproject.toml"], "give one number and one file", 2),
]


def test_wrong_commands_are_one_line(rig: Rig, seed: int) -> None:
    catalog = {"HEADRACE_CATALOG": "tests.catalogs_owned"}
    rig.produce(seed, 20)
    rig.start(**catalog)
    rig.wait(rig.done)
    desk = Desk(rig, **catalog)
    try:
        for words, says, code in WRONG:
            desk.refused("replay", *words, "--yes", says=says, code=code)
        done = desk.run("replay", "--reason", "late", "--table", "visits", "--yes")
        assert done.returncode == 0 and "no late record of visits is to be replayed (it left out none)" in done.stdout
        assert desk.said("list")["left_out"] == []
    finally:
        desk.close()
