"""Records read again by offset: those asked for and no others, near or far apart; what is not there is named."""

from __future__ import annotations

import random

import pytest

from headrace.errors import TopicRecreated
from headrace.settings import Settings
from stream_workers import rereading
from stream_workers.log import LogAdmin
from tests.stream_workers.harness import Rig
from tests.stream_workers.orders import Message

_RECORDS = 26_000


def test_finds_each_and_names_what_is_missing(rig: Rig, seed: int) -> None:
    rng = random.Random(seed)
    per_transaction = 6_500
    for start in range(0, _RECORDS, per_transaction):  # each ends in a marker, which takes an offset
        rig.send([Message("good", b"k", b"%d" % n, None) for n in range(start, start + per_transaction)], 0)
    markers = [per_transaction, 2 * per_transaction + 1, 3 * per_transaction + 2]
    settings = Settings(kafka_bootstrap=rig.stack.kafka_bootstrap)
    kafka = LogAdmin(settings)
    state = kafka.describe(rig.topic)
    log = rereading.Log(rig.topic, state.topic_id, 0)
    last = state.end[0] - 2
    for wanted in (
        [0],
        [last],
        [0, 11_500, 11_501, last],  # far apart, and near
        sorted({*rng.sample(range(last), 3_000), *markers}),
        sorted({*range(5_000, 9_000), markers[0]}),
    ):
        parts = list(rereading.reread(settings, kafka, log, wanted, 500))
        found = [record for part in parts for record in part.records]
        assert [n for part in parts for n in part.missing] == [n for n in wanted if n in markers]
        assert [record.offset for record in found] == [n for n in wanted if n not in markers]
        for record in found:
            number = record.offset - sum(marker < record.offset for marker in markers)
            assert (record.payload, record.key, record.headers) == (b"%d" % number, b"k", {})
            assert record.kafka_timestamp is not None
        assert all(len(part.records) < 2 * 500 for part in parts)
    assert rereading.deleted(state, {0: [0, last + 2], 1: [0]}) == {0: [last + 2], 1: [0]}
    with pytest.raises(TopicRecreated, match="deleted and created again"):
        list(rereading.reread(settings, kafka, rereading.Log(rig.topic, "another", 0), [3], 500))
