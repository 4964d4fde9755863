"""Topics as Parquet files: whatever the cuts, crashes and zombies, the manifest's files hold each record once."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from headrace.errors import Fenced
from headrace.failpoint import Failpoints
from headrace.settings import Settings
from ledger import Connection, archive
from stream_workers.archive.committing import commit_cut
from stream_workers.archive.lake import Lake
from stream_workers.archive.opening import ArchiveShard, hold
from stream_workers.archive.steps import ArchiveStep
from stream_workers.opening import ShardState
from stream_workers.routing import Forced, Router
from tests.operators.bench import Bench, Crash
from tests.operators.conftest import EXAMPLES
from tests.topology.declare import ORDER, topic
from topology import Archive

SOURCE = topic(partitions=2)
LAKE = Archive("orders_lake", SOURCE)
STEPS = tuple(ArchiveStep)

RECORDS = st.lists(
    st.tuples(
        st.integers(0, 1),  # partition
        st.integers(1, 4),  # day
        st.integers(-2, 9),  # cents: those below 1 are refused
        st.sampled_from(["order", "order", "order", "marker", "gap"]),
    ),
    max_size=40,
)


class _At(Failpoints):
    """At the nth visit of a step something else happens; by default the worker dies."""

    def __init__(self, at: ArchiveStep | None = None, nth: int = 1, then: Callable[[], None] | None = None) -> None:
        super().__init__("")
        self._at, self._left, self._then = at, nth, then

    def hit(self, step: Any) -> None:
        if step is self._at:
            self._left -= 1
            if not self._left:
                if self._then is None:
                    raise Crash(step)
                self._then()


class ArchiveBench(Bench):
    """A bench whose batches end in files."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.folder = Path(tempfile.mkdtemp(prefix="lake-"))
        self.lake = Lake(self.folder.as_uri(), Settings())
        self._route = Router(self.program)
        (self.version,) = self._programs

    def shard(self, partition: int) -> ArchiveShard:
        found = self._states.get(partition)
        if not isinstance(found, ArchiveShard):
            found = self._states[partition] = hold(self.db, super()._state(partition))
        return found

    def _state(self, shard: int) -> ShardState:
        return self.shard(shard)

    def hold(self, partition: int, to_offset: int, failpoints: Failpoints | None = None, *, cut: bool = True) -> None:
        """Hold a batch back, and write the cut unless an earlier one has to end elsewhere."""
        state = self.shard(partition)
        failpoints = failpoints or _At()
        try:
            while (start := state.next_offset) < to_offset:
                stop = min([to_offset, *(edge for edge in state.edges() if edge > start)])
                batch = self._batch(partition, start, stop)
                table, held = state.tables[self.version], state.held[self.version]
                routed = self._route.route(batch, {self.version: table.watermark}, Forced())
                move = held.add(batch, routed[self.version], table, 0.0)
                failpoints.hit(ArchiveStep.HELD)
                state.tables[self.version] = replace(table, next_offset=stop, watermark=move.watermark)
                if stop == held.intended or (cut and held.intended is None):
                    self.cut(partition, failpoints)
        except Crash:
            self.crashes += 1
            self.restart(partition)

    def cut(self, partition: int, failpoints: Failpoints | None = None) -> None:
        """Write what is held."""
        state = self.shard(partition)
        state.tables[self.version] = commit_cut(self.db, failpoints or _At(), self.lake, state, self.version)

    # -- what is asked

    def listed(self) -> list[str]:
        return [row["file"] for row in self.rows("orders_lake")]

    def there(self) -> set[str]:
        return {str(file) for file in self.folder.rglob("*") if file.is_file()}

    def read(self) -> Counter[tuple[Any, ...]]:
        """Every row of the files that the manifest lists."""
        if not self.listed():
            return Counter()
        files = duckdb.read_parquet(self.listed(), union_by_name=True, hive_partitioning=True)
        columns = '"orderId", "orderAmount", "orderTimestamp", _partition, _offset, epoch_ms(_timestamp)'
        return Counter(files.project(f"{columns}, date::varchar").fetchall())

    def verify(self) -> None:
        """Each valid record once, in the file of its day; every other offset is named."""
        expected = self.duck().sql(
            'select "orderId", "orderAmount", "orderTimestamp", partition, "offset", kafka_millis,'
            ' left("orderTimestamp", 10) from log where "orderAmount" > 0'
        )
        assert self.read() == Counter(expected.fetchall())
        for row in self.accounting():
            offsets = self.db.execute(
                "select count(*) from generate_series(%s::bigint, %s::bigint - 1) as o where"
                " (select count(*) from ledger.archive_cuts c where c.partition = %s"
                "  and o >= from_offset and o < to_offset) <> 1",
                (row["first_offset"], row["next_offset"], row["partition"]),
            ).fetchall()
            assert offsets == [(0,)]
            named = self.db.execute(
                "select coalesce(sum(rows), 0), range_agg(refused)::text, range_agg(control)::text,"
                " coalesce(sum((select sum(upper(r) - lower(r)) from unnest(absent) r)), 0)"
                " from ledger.archive_cuts where partition = %s",
                (row["partition"],),
            ).fetchall()
            log = self.logs[row["partition"]]
            bad = {e.offset for e in log if e.value is not None and e.value["orderAmount"] <= 0}
            control = {e.offset for e in log if e.value is None}
            ((rows, refused, marked, absent),) = named
            assert (rows, absent) == (row["applied"], row["gaps"])
            assert _offsets(refused) == bad and _offsets(marked) == control
        assert self.db.execute("select count(*) from ledger.archive_intents").fetchall() == [(0,)]
        for listed in archive.files(self.db, self.version):
            content = Path(listed.file).read_bytes()
            assert (len(content), hashlib.sha256(content).hexdigest()) == (listed.bytes, listed.sha256)


def _offsets(multirange: str | None) -> set[int]:
    spans = [part.split(",") for part in (multirange or "{}").strip("{}[)").split("),[") if part]
    return {offset for low, high in spans for offset in range(int(low), int(high))}


@pytest.fixture
def benches(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ArchiveBench]]:
    """Benches that are cleaned up; a disk need not spin for them."""
    monkeypatch.setattr(os, "fsync", lambda _number: None)
    made: list[ArchiveBench] = []
    yield made
    for bench in made:
        shutil.rmtree(bench.folder)


def filled(db: Connection, records: list[tuple[int, int, int, str]], benches: list[ArchiveBench]) -> ArchiveBench:
    bench = ArchiveBench(db, SOURCE, [LAKE])
    benches.append(bench)
    for number, (partition, day, cents, kind) in enumerate(records):
        at = f"2026-01-{10 + day}T12:00:00Z"
        if kind == "gap":
            bench.skip(partition)
        if kind == "marker":
            bench.mark(partition, 1_768_000_000_000_000 + number)
        else:
            order = {**ORDER, "orderId": f"o{number}", "orderAmount": cents / 100, "orderTimestamp": at}
            bench.send(partition, order, kafka_millis=1_800_000_000_000 + number)
    return bench


@hypothesis_settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)
@given(records=RECORDS, seed=st.integers(0, 2**32))
def test_each_record_is_in_one_file_whatever_crashes(
    db: Connection, benches: list[ArchiveBench], records: list[tuple[int, int, int, str]], seed: int
) -> None:
    bench = filled(db, records, benches)
    rng = random.Random(seed)
    while behind := [p for p in bench.logs if bench.position(p) < bench.end(p)]:
        partition = rng.choice(behind)
        at, end = bench.position(partition), bench.end(partition)
        to = rng.randint(at + 1, min(end, at + rng.choice([1, 3, 10, 1_000])))
        crash = _At(rng.choice(STEPS), rng.randint(1, 3)) if rng.random() < 0.4 else None
        bench.hold(partition, to, crash, cut=rng.random() < 0.6)
    for partition in bench.logs:
        if bench.shard(partition).held[bench.version].move:
            bench.cut(partition)
    bench.verify()
    assert bench.there() == set(bench.listed()), "a retry makes the same cut, so that nothing is left over"


def test_a_zombie_writes_over_a_listed_file_what_is_in_it(db: Connection, benches: list[ArchiveBench]) -> None:
    bench = filled(db, [(0, day, 100, "order") for day in (1, 1, 2, 1, 2, 1)], benches)
    for to in (2, 4, 6):  # three batches here, one below
        bench.hold(0, to, cut=False)
    zombie = bench.shard(0)

    def taken_over() -> None:
        bench.restart(0)
        bench.hold(0, 6)
        bench.verify()

    with pytest.raises(Fenced):
        commit_cut(db, _At(ArchiveStep.WRITING, 1, taken_over), bench.lake, zombie, bench.version)
    bench.verify()
    assert bench.there() == set(bench.listed()) and len(bench.listed()) == 2


def test_who_lost_the_shard_writes_no_file(db: Connection, benches: list[ArchiveBench]) -> None:
    bench = filled(db, [(0, 1, 100, "order")] * 3, benches)
    bench.hold(0, 3, cut=False)
    zombie = bench.shard(0)
    bench.restart(0)
    bench.shard(0)
    with pytest.raises(Fenced, match="nothing was written"):
        commit_cut(db, _At(), bench.lake, zombie, bench.version)
    assert not bench.there()


def test_a_replay_finds_nothing_to_do(db: Connection, benches: list[ArchiveBench]) -> None:
    bench = filled(db, [(0, 1, 100, "order"), (0, 1, -1, "order")], benches)
    bench.hold(0, 2)
    assert bench.correct(0, 1, {**ORDER, "orderAmount": 1.0}) == []
    assert bench.discard(0, 1) == ["orders_lake"]
