"""A pipeline that archives a topic under test, and what must be in the lake: the source's log, read by hand."""

from __future__ import annotations

import hashlib
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import duckdb

from tests.stream_workers.derive.rig import DerivedRig


@dataclass
class ArchiveRig(DerivedRig):
    """Pipeline `orders-archive` over a topic, a database and a lake of the test's own."""

    @property
    def lake(self) -> Path:
        return self.log_dir / "lake"

    def environment(self, **extra: str) -> dict[str, str]:
        given = {"HEADRACE_CATALOG": "tests.catalogs_archived", "HEADRACE_LAKE": self.lake.as_uri()}
        return super().environment(**{**given, **extra})

    def archive(self, **extra: str) -> subprocess.Popen[bytes]:
        """Start a worker."""
        return self.derive("orders-archive", **extra)

    def kept(self) -> bool:
        """Whether the ledger has everything."""
        return {row[0]: row[1] for row in self.at("orders_lake")} == self.ends_of(self.topic)

    def listed(self) -> list[str]:
        return [file for (file,) in self.query("select file from orders_lake")]

    def verify_lake(self) -> None:
        """Each good record is in one file, in that of its day, as it is in the log; identities hold."""
        listed = self.listed()
        read = duckdb.read_parquet(listed, union_by_name=True, hive_partitioning=True)
        columns = '"orderId", "productId", "orderAmount", "orderTimestamp"'
        found = read.project(f"{columns}, _partition, _offset, epoch_ms(_timestamp), date::varchar").fetchall()
        expected = self.source_rows().sql(
            f'select {columns}, p, o, ts, left("orderTimestamp", 10) from log'  # their offsets from UTC are all zero
        )
        assert Counter(found) == Counter(expected.fetchall())
        for file, size, sha256 in self.query("select file, bytes, sha256 from orders_lake"):
            content = Path(file).read_bytes()
            assert (len(content), hashlib.sha256(content).hexdigest()) == (size, sha256)
        left = {str(file) for file in self.lake.rglob("*.parquet")} - set(listed)
        assert not left, "a retry makes the same cut"
        consumed, applied, dead, control = (sum(row[k] for row in self.at("orders_lake")) for k in (2, 3, 5, 6))
        assert (consumed, control) == (len(self.sent.messages) + self.markers, self.markers)
        assert (applied, dead) == (len(self.sent.good), sum(self.sent.bad().values()))
