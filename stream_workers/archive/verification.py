"""Is a lake what its manifest says? Files against the manifest, the manifest against the position."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ledger import Connection, archive
from stream_workers.archive.compaction import FileDamaged, content, strays
from stream_workers.archive.lake import Lake


@dataclass(frozen=True)
class Verified:
    """What was found. elsewhere: listed files that lie at an earlier address and were not looked at. strays: files that
    no manifest names, which the next compaction deletes."""

    files: int
    rows: int
    elsewhere: int
    strays: int
    problems: tuple[str, ...]


def verify(db: Connection, lake: Lake, version: str, now: datetime, *, deep: bool = False) -> Verified:
    """Compare; with `deep` read every file and compare it with its SHA-256. Raises `ServiceUnavailable`."""
    listed = archive.files(db, version)
    here = [file for file in listed if lake.path(file.file)]
    folders = sorted({str(lake.path(file.file)).partition("/")[0] for file in here})
    sizes = {found.file: found.bytes for folder in folders for found in lake.found(folder)}
    problems = archive.wrong(db, version)
    for file in here:
        size = sizes.get(file.file)
        if size is None:
            problems.append(f"{file.file} is listed and not there")
        elif size != file.bytes:
            problems.append(f"{file.file} has {size} bytes, {file.bytes} were written")
        elif deep:
            try:
                content(lake, file)
            except FileDamaged as error:
                problems.append(str(error))
    stray = len(strays(db, lake, version, now))
    return Verified(len(listed), sum(file.rows for file in listed), len(listed) - len(here), stray, tuple(problems))
