"""The generator: the same for a seed, exact in its counts."""

from __future__ import annotations

import csv
import json
from collections import Counter
from datetime import date
from pathlib import Path

import pytest

from headrace.errors import UsageError
from ingestion.generate import generate, read_manifest


def test_the_same_seed_gives_the_same_files(tmp_path: Path) -> None:
    first = generate(tmp_path / "a", events=2_000, bad=0.03, seed=9, days=2)
    second = generate(tmp_path / "b", events=2_000, bad=0.03, seed=9, days=2)
    other = generate(tmp_path / "c", events=2_000, bad=0.03, seed=10, days=2)
    assert first == second == read_manifest(tmp_path / "a")
    for file in first.files:
        assert (tmp_path / "a" / file.name).read_bytes() == (tmp_path / "b" / file.name).read_bytes()
        assert (tmp_path / "a" / file.name).read_bytes() != (tmp_path / "c" / file.name).read_bytes()
    assert other.rows == 2_000


def test_counts_by_kind(tmp_path: Path) -> None:
    manifest = generate(tmp_path, events=6_000, bad=0.02, seed=2, days=3)
    found: Counter[str] = Counter()
    ids = set()
    for file in manifest.files:
        with (tmp_path / file.name).open() as lines:
            rows = list(csv.DictReader(lines)) if file.format == "csv" else [json.loads(line) for line in lines]
        assert len(rows) == file.rows
        for row in rows:
            ids.add(row["orderId"])
            found["missing_column"] += None in row.values() or "productId" not in row
            found["wrong_type"] += row["quantity"] == "three"
            found["bad_enum"] += row.get("status") == "RETURNED"
            found["negative_amount"] += float(row["orderAmount"]) < 0
            found["nan"] += str(row["orderAmount"]).lower() == "nan"
            found["bad_time"] += row["orderTimestamp"] == "yesterday at noon"
    assert found == manifest.bad
    assert sum(manifest.bad.values()) == 120
    assert len(ids) == 6_000
    assert sum(manifest.dead_letters.values()) == 120


def test_arguments_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="future"):
        generate(tmp_path, start=date(2999, 1, 1))
    with pytest.raises(UsageError, match="at least 1"):
        generate(tmp_path, events=0)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be made"):
        generate(tmp_path / "file", events=10)
