"""Landing files of made-up orders, a manifest of what is in them, and records broken in ways no file can be."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Literal

import pyarrow as pa

from headrace.errors import UsageError
from ingestion import orders
from ingestion.records import RawRecord
from schemas.avro import AvroSchema
from schemas.codec import Encoder

MANIFEST = "manifest.json"
START = date(2026, 1, 1)
BROKEN_KINDS = {
    "truncated": "undecodable",
    "unknown_schema_id": "unknown_schema_id",
    "no_magic_byte": "no_magic_byte",
    "empty_value": "empty_value",
}
"""Kinds of broken records, with the reason of the dead letter."""
_AT_ONCE = 200_000


@dataclass(frozen=True)
class ManifestFile:
    """One file: its name below the landing folder, the rows made, and the bad among them by kind."""

    name: str
    format: Literal["csv", "json"]
    rows: int
    bad: Mapping[str, int]


@dataclass(frozen=True)
class Manifest:
    """What was made. rejected_lines never reach the topic; dead_letters are all bad rows by reason."""

    seed: int
    start: str
    days: int
    rows: int
    files: tuple[ManifestFile, ...]
    bad: Mapping[str, int]
    rejected_lines: int
    dead_letters: Mapping[str, int]

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.bad.items())
        bad = sum(self.bad.values())
        return f"{self.rows} orders in {len(self.files)} files over {self.days} days, {bad} of them bad ({kinds})"


def generate(
    out: Path, events: int = 200_000, bad: float = 0.01, seed: int = 1, days: int = 3, start: date = START
) -> Manifest:
    """Write `events` orders over `days` UTC days into `<out>/orders/`, a CSV and a JSON file for each day.

    bad: share of bad rows, 0 to 1, all kinds of `orders.BAD_KINDS` in turn. Equal arguments give equal files. A file
    appears complete or not at all; the manifest, `<out>/manifest.json`, is written last.
    """
    if events < 1 or days < 1 or not 0 <= bad <= 1:
        raise UsageError("generate: events and days are at least 1, bad is between 0 and 1")
    if orders.midnight(start + timedelta(days=days)) > datetime.now(UTC):
        raise UsageError(f"generate: {days} days from {start} on end in the future; take fewer days")
    folder = out / "orders"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder} cannot be made ({error.strerror}); name another folder") from error
    shares = [events * (part + 1) // (2 * days) - events * part // (2 * days) for part in range(2 * days)]
    files: list[ManifestFile] = []
    first = 0
    for part, rows in enumerate(shares):
        day = start + timedelta(days=part // 2)
        kind: Literal["csv", "json"] = "json" if part % 2 else "csv"
        path = folder / f"{day}.{'jsonl' if kind == 'json' else 'csv'}"
        counted = _write(path, kind, first, rows, day, seed=seed, bad=bad)
        files.append(ManifestFile(path.relative_to(out).as_posix(), kind, rows, counted))
        first += rows
    manifest = _manifest(seed, start, days, tuple(files))
    _replace(out / MANIFEST, json.dumps(asdict(manifest), indent=1) + "\n")
    return manifest


def read_manifest(out: Path) -> Manifest | None:
    """The manifest of the files in `out`; None when there is none that can be read."""
    try:
        found = json.loads((out / MANIFEST).read_text())
        files = tuple(ManifestFile(**file) for file in found.pop("files"))
        return Manifest(files=files, **found)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def broken_records(
    schema: AvroSchema, schema_id: int, *, partitions: int, each: int = 3, seed: int = 1
) -> list[RawRecord]:
    """`each` records of every kind of `BROKEN_KINDS`, over all partitions; the header `broken` names the kind."""
    made = orders.make(0, each, START, seed=seed, bad=0.0)
    good = Encoder().encode(schema, schema_id, batch(made, schema)).to_pylist()
    unknown = (2_000_000_000 + seed % 1_000_000).to_bytes(4, "big")
    records: list[RawRecord] = []
    for row, (key, value) in enumerate(zip(made.columns[1], good, strict=True)):
        values = {
            "truncated": value[: len(value) // 2],
            "unknown_schema_id": b"\0" + unknown + value[5:],
            "no_magic_byte": b"order " + str(row).encode(),
            "empty_value": None if row % 2 else b"",
        }
        for kind in BROKEN_KINDS:
            partition = len(records) % partitions
            records.append(RawRecord(key.encode(), values[kind], partition, (("broken", kind.encode()),)))
    return records


def batch(made: orders.Orders, schema: AvroSchema) -> pa.RecordBatch:
    """Good and judged orders as columns of the schema; rejected kinds have no place in it."""
    texts = dict(zip(orders.FIELDS, made.columns, strict=True))
    columns = [pa.array(texts[field.name], pa.string()).cast(field.arrow) for field in schema.fields]
    return pa.RecordBatch.from_arrays(columns, schema=schema.arrow)


def _write(path: Path, kind: str, first: int, rows: int, day: date, *, seed: int, bad: float) -> dict[str, int]:
    counted: Counter[str] = Counter()
    part = path.with_name(f".{path.name}.part")
    lines = orders.json_lines if kind == "json" else orders.csv_lines
    with part.open("w", encoding="utf-8", newline="") as file:
        if kind == "csv":
            file.write(",".join(orders.FIELDS) + "\n")
        for offset in range(0, rows, _AT_ONCE):
            made = orders.make(first + offset, min(_AT_ONCE, rows - offset), day, seed=seed, bad=bad)
            file.writelines(lines(made))
            counted.update(made.counted())
    part.replace(path)
    return {name: counted[name] for name in orders.BAD_KINDS}


def _manifest(seed: int, start: date, days: int, files: tuple[ManifestFile, ...]) -> Manifest:
    bad = {kind: sum(file.bad[kind] for file in files) for kind in orders.BAD_KINDS}
    reasons = {kind: bad[kind] for kind in orders.REJECTED_KINDS}
    return Manifest(
        seed=seed,
        start=start.isoformat(),
        days=days,
        rows=sum(file.rows for file in files),
        files=files,
        bad=bad,
        rejected_lines=sum(reasons.values()),
        dead_letters=reasons | {reason: bad[kind] for kind, reason in orders.JUDGED_KINDS.items()},
    )


def _replace(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text)
    part.replace(path)
