"""A pipeline of two tables, or three, whose dead letters go to a topic, and what must be in it: what the ledger has."""

from __future__ import annotations

from dataclasses import dataclass

from tests.stream_workers.derive.rig import DerivedRig, texts
from tests.stream_workers.harness import Rig
from tests.stream_workers.orders import BAD

KINDS = [kind for kind in BAD for _ in range(2)]


@dataclass
class LettersRig(DerivedRig):
    """Pipeline `orders`. tables: how many it has."""

    tables: int = 2

    def environment(self, **extra: str) -> dict[str, str]:
        given = {"HEADRACE_CATALOG": "tests.catalogs", "TEST_DEAD_LETTERS": f"{self.topic}-failed"}
        return super().environment(**{**given, **extra})

    def settled(self) -> bool:
        """Whether all that was sent is consumed, and all that was refused is published."""
        at = self.query("select count(*), sum(consumed)::int from ledger.positions")
        if at != [(self.tables * self.partitions, self.tables * len(self.sent.messages))]:
            return False
        boxes = self.query("select published_seq = outbox_seq and error is null from ledger.outboxes")
        left = self.query("select count(*) from ledger.outbox")
        return boxes == [(True,)] * self.partitions and left == [(0,)]

    def verify(self) -> None:
        Rig.verify(self)

    def verify_topic(self) -> None:
        """Every dead letter of the ledger is in the topic, once, as it was, with the reason of the first table."""
        found: dict[tuple[str, int, int], int] = {}
        reasons = {
            (version, topic, partition, offset): (reason, payload, key)
            for version, topic, partition, offset, reason, payload, key in self.query(
                'select d.table_version, r.topic, r.partition, r."offset", d.reason, r.payload, r.key'
                " from ledger.dead_letters d join ledger.dead_letter_records r using (record_id)"
            )
        }
        for letter in self.log(f"{self.topic}-failed"):
            head = texts(letter)
            if "headrace-topic" not in head:
                continue  # no dead letter: put into the outbox by hand
            place = (head["headrace-topic"], int(head["headrace-partition"]), int(head["headrace-offset"]))
            found[place] = found.get(place, 0) + 1
            first, *others = head["headrace-for"].split(",")
            reason, payload, key = reasons[first, *place]
            assert (head["headrace-pipeline"], head["headrace-reason"]) == ("orders", reason)
            assert (letter.value(), letter.key()) == (payload, key)
            assert all((other, *place) in reasons for other in others)
        assert set(found) == {place[1:] for place in reasons}
        assert set(found.values()) <= {self.times}, self.logs()
