"""From the outbox to Kafka: one Kafka transaction holds records and "offset = number of the last one" of a group.

Kafka's offset is the truth, the ledger mirrors it after each transaction (Kafka forgets it after seven days without a
commit, engine rule B7). Opening has one path:

1. Take over the transactional id: every older publisher's transaction is aborted, and every later one fenced.
2. Look whether the closer's epoch is still ours: who claimed it after us takes over after us.
3. Hold Kafka's offset against the ledger; nothing is reset.
"""

from __future__ import annotations

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass

from confluent_kafka import KafkaException

from headrace.errors import LedgerBehindKafka, OffsetError, PartitionsChanged, ServiceUnavailable, TopicRecreated
from headrace.settings import Settings
from headrace.transactions import TransactionalProducer
from ledger import Connection, closings, outbox, outboxes
from ledger.outbox import CLOSER
from stream_workers.emit.steps import EmitStep
from stream_workers.log import LogAdmin, LogState

_log = logging.getLogger("stream_workers.kafka")
_AT_ONCE = 5_000  # records of one Kafka transaction
_AGAIN_SECONDS = 12 * 3600.0  # Kafka forgets the offset of a group after a week without a commit (rule B7)
_SAYS = "the worker opens the outbox anew; `headrace status` shows it"

Hit = Callable[[EmitStep], None]
Claim = closings.Claim | outboxes.Claim


@dataclass(frozen=True)
class Outbox:
    """The outbox of one writer, and where it goes.

    writer, shard: its key in the ledger. group: whose offset in partition 0 of the topic is the number of the last
    record published. where, records: what errors call it and what it holds.
    """

    pipeline: str
    writer: str
    shard: int
    topic: str
    group: str
    transactional_id: str
    where: str
    records: str


@dataclass(frozen=True)
class Published:
    """What Kafka's offset belongs to: this build of the table, and this topic."""

    born: str
    topic_id: str

    def dump(self) -> str:
        """As metadata of the offset."""
        return json.dumps(asdict(self), separators=(",", ":"))


class Publisher(ABC):
    """Publishes the outbox of one writer. `at`: the number of the last record that Kafka has."""

    def __init__(self, settings: Settings, box: Outbox, claim: Claim, log: LogState, hit: Hit) -> None:
        self._box, self._hit = box, hit
        self._mine = Published(claim.born, log.topic_id)
        self._producer = TransactionalProducer(
            settings, box.transactional_id, box.group, (box.topic, 0), again=_SAYS, logger=_log
        )
        self.at = claim.published_seq
        self._touched = 0.0

    @abstractmethod
    def _standing(self, db: Connection) -> Claim:
        """The claim as the ledger has it now; raises `Fenced` when another has claimed since."""

    @abstractmethod
    def _mirror(self, db: Connection, seq: int) -> None:
        """Note what Kafka has, and drop it from the outbox; raises `Fenced` likewise."""

    def close(self) -> None:
        """Leave; an open transaction is aborted by the next owner or by its timeout."""
        self._producer.close()

    def open(self, db: Connection, now: float) -> None:
        """Take over; raises an `OffsetError` when Kafka and the ledger disagree, `Fenced` when another has claimed."""
        found = self._producer.take_over()
        self._hit(EmitStep.TAKEN_OVER)
        at = compare(found, self._standing(db), self._mine, self._box)
        if at is None:
            at = 0
            self._announce(at)
        self._hit(EmitStep.ANNOUNCED)
        self.at, self._touched = at, now
        self._mirror(db, at)

    def publish(self, db: Connection, outbox_seq: int, now: float) -> int:
        """Publish what comes next in one Kafka transaction, then mirror it; the number of records."""
        rows = outbox.unsent(db, self._box.writer, self._box.shard, self.at, _AT_ONCE) if outbox_seq > self.at else []
        wanted = range(self.at + 1, self.at + 1 + len(rows))
        missing = next((n for n, row in zip(wanted, rows, strict=True) if row.seq != n), None)
        if missing is None and not rows and outbox_seq > self.at:
            missing = self.at + 1
        if missing is not None:
            raise OffsetError(
                f"{self._box.where}: record {missing} of the outbox is gone, of {outbox_seq}: rows were deleted by"
                f" hand; nothing was published; to emit all {self._box.records} again run"
                f" `headrace pipeline rebuild {self._box.pipeline}`"
            )
        if not rows:
            if now - self._touched > _AGAIN_SECONDS:
                self._announce(self.at)
                self._touched = now
            return 0
        producer = self._producer
        producer.begin()
        try:
            self._hit(EmitStep.BEGUN)
            for row in rows:
                self._produce(row)
            self._hit(EmitStep.PRODUCED)
            producer.commit_offset(rows[-1].seq, self._mine.dump())
            self._hit(EmitStep.POSITIONED)
        except BaseException:
            producer.abort()
            raise
        producer.commit()
        self._hit(EmitStep.COMMITTED)
        self.at, self._touched = rows[-1].seq, now
        self._mirror(db, self.at)
        self._hit(EmitStep.MIRRORED)
        return len(rows)

    def _produce(self, row: outbox.Unsent) -> None:
        headers = [(name, value.encode("utf-8", "replace")) for name, value in row.headers]
        try:
            self._producer.produce(self._box.topic, row.key, row.payload, headers)
        except KafkaException as error:  # fenced meanwhile, of which this call only says that it is fatal
            raise ServiceUnavailable(
                f"{self._box.where}: Kafka did not take record {row.seq} ({error.args[0].str()}); nothing is lost:"
                f" {_SAYS}"
            ) from error

    def _announce(self, at: int) -> None:
        self._producer.begin()
        self._producer.commit_offset(at, self._mine.dump())
        self._producer.commit()


def described(kafka: LogAdmin, topic: str, partitions: int, name: str) -> LogState:
    """The topic of `name` as it is in Kafka; `PartitionsChanged` unless it has so many partitions."""
    log = kafka.describe(topic)
    if log.partitions != partitions:
        raise PartitionsChanged(
            f"{topic} has {log.partitions} partitions, {name} says {partitions}; nothing was published; keys stay in"
            " their partitions only while the number does not change"
        )
    return log


def compare(found: tuple[int, str] | None, claim: Claim, mine: Published, box: Outbox) -> int | None:
    """The number of the last record of this build that Kafka has; None when it has none and need not have.

    found: the group's offset and its metadata. Raises an `OffsetError` when Kafka and the ledger disagree.
    """
    where = box.where
    accept, rebuild = (f"run `headrace pipeline {what} {box.pipeline}`" for what in ("accept", "rebuild"))
    published = _load(found[1], where, accept) if found else None
    if found is None or published is None or published.born != claim.born:
        if not claim.announced:
            return None  # the first start of this build; an offset of an earlier one counts other records
        raise OffsetError(
            f"{where}: the ledger has published {claim.published_seq} records and Kafka has no offset of this build:"
            f" it forgets those of a group after seven days; nothing was published; to go on {accept}"
        )
    if published.topic_id != mine.topic_id:
        onward = "" if box.shard == CLOSER else f" to go on with those to come {accept};"
        raise TopicRecreated(
            f"{where}: the topic was deleted and created again; nothing was published;{onward} to emit all"
            f" {box.records} again {rebuild}"
        )
    at = found[0]
    if at > claim.outbox_seq:
        raise LedgerBehindKafka(
            f"{where}: the ledger's outbox ends at {claim.outbox_seq}, but {at} records were published: Postgres was"
            " restored to an older state; nothing was published; to go on from the ledger's rows, with some records a"
            f" second time, {accept}; to start over {rebuild}"
        )
    if at < claim.published_seq:
        raise OffsetError(
            f"{where}: the ledger has published {claim.published_seq} records and Kafka's offset is {at}: it went back,"
            f" by hand or because Kafka lost memory; nothing was published; to go on {accept}"
        )
    return at


def _load(metadata: str, where: str, remedy: str) -> Published:
    try:
        return Published(**json.loads(metadata))
    except (ValueError, TypeError) as error:
        raise OffsetError(
            f"{where}: the group's offset was set by other hands, its metadata is {metadata[:40]!r}; nothing was"
            f" published; to go on from the ledger {remedy}"
        ) from error
