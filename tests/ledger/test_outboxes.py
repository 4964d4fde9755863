"""Outboxes of shards: one owner, numbers without gaps, a bound."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from headrace.errors import Fenced
from ledger import Connection, connect, dead_letters, outbox, outboxes, table_versions
from ledger.dead_letters import DeadLetter
from ledger.outbox import UNPUBLISHED, Record
from ledger.outboxes import Claim, OutboxFull


@pytest.fixture
def ledger(database: str) -> Iterator[Connection]:
    with connect(database) as connection:
        yield connection


def _claimed(db: Connection, worker: str = "one") -> Claim:
    return outboxes.claim(db, "orders", "orders", 3, worker)


def test_an_outbox_has_one_owner_and_a_bound(ledger: Connection) -> None:
    old = _claimed(ledger)
    new = _claimed(ledger, "other")
    assert (new.born, new.outbox_seq) == (old.born, 0) and new.epoch > old.epoch
    for call in (lambda: outboxes.lock(ledger, old), lambda: outboxes.standing(ledger, old)):
        with pytest.raises(Fenced, match="another worker sends its records"):
            call()
    with pytest.raises(Fenced):
        outboxes.sent(ledger, old, 0)
    outboxes.move(ledger, new, UNPUBLISHED)
    with pytest.raises(OutboxFull, match=r"100,000 records wait for Kafka.*nothing is lost"):
        outboxes.lock(ledger, new)
    outboxes.sent(ledger, new, 1)
    assert outboxes.lock(ledger, new) == UNPUBLISHED
    assert outboxes.standing(ledger, new) == replace(new, outbox_seq=UNPUBLISHED, published_seq=1, announced=True)


def test_the_outbox_keeps_every_text(ledger: Connection) -> None:
    headers = (("a", 'nul \0, quote ", ü, \\u0000'), ("a", "again"))
    outbox.add(ledger, "orders", 3, "failed", 7, [Record(None, b"\0x", headers), Record(b"k", None)])
    first, second = outbox.unsent(ledger, "orders", 3, 7, 10)
    assert (first.seq, first.key, first.payload, second.seq, second.headers) == (8, None, b"\0x", 9, ())
    assert first.headers == (("a", 'nul \N{REPLACEMENT CHARACTER}, quote ", ü, \\u0000'), ("a", "again"))


def test_what_another_table_of_the_pipeline_has_refused_is_not_new(ledger: Connection) -> None:
    for version, pipeline in (("a@1", "orders"), ("b@1", "orders"), ("c@1", "others")):
        ledger.execute(
            "insert into ledger.table_versions (table_version, table_name, pipeline, state_table, definition)"
            " values (%s, %s, %s, 'state.x', '{}')",
            (version, version[0], pipeline),
        )
    for version, offset in (("a@1", 4), ("b@1", 5), ("c@1", 6)):
        dead_letters.record(ledger, [DeadLetter("orders", version, "undecodable", partition=0, offset=offset)])
    assert dead_letters.new(ledger, "orders", "orders", 0, [4, 5, 6, 7]) == {6, 7}
    assert dead_letters.new(ledger, "orders", "orders", 1, [4]) == {4}


def test_a_pipeline_that_is_built_anew_sends_anew(ledger: Connection) -> None:
    old = _claimed(ledger)
    outboxes.move(ledger, old, outbox.add(ledger, "orders", 3, "failed", 0, [Record(b"k", b"v")]))
    table_versions.drop(ledger, "orders")
    assert outbox.unsent(ledger, "orders", 3, 0, 10) == []
    with pytest.raises(Fenced):
        outboxes.standing(ledger, old)
    new = _claimed(ledger)
    assert (new.outbox_seq, new.announced) == (0, False) and new.born != old.born
