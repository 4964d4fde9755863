"""An archive -> which records go into it and to which day: a table's program whose rows are index and day of a record.

Its rows have `_i` (index of the record in the batch) and `_day` INTEGER, days since 1970-01-01 of its event time in
UTC; the worker takes the columns themselves from the decoded frame, untouched.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from headrace.errors import DeclarationError
from schemas.avro import AvroSchema
from topology import checks
from topology.archive import Archive
from topology.duck import quoted, text
from topology.program import Column, Part, TableProgram
from topology.route import TableRoute
from topology.size import size_bytes

LAYOUT = 1  # of paths and columns; part of the version
PARTITION, OFFSET, TIMESTAMP = "_partition", "_offset", "_timestamp"
INDEX, DAY = "_i", "_day"
_RESERVED = {PARTITION, OFFSET, TIMESTAMP, "date"}
_DAY_MICROS = 86_400_000_000
_FIRST, _LAST = -62_135_596_800_000_000, 253_402_300_799_999_999  # years 1 to 9999, of which a path can name the day
_ADDRESS = re.compile(r"file:///[^?#]*|s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^?#]*)?")
_SIZES = (1_000, 1_000_000_000)


def check(archive: Archive, place: str) -> None:
    """Everything of an archive; raises `DeclarationError`."""
    where = f"{place}: {archive.name}"
    checks.check_view_name(archive.name, where, "archive")
    if not checks.TOPIC_NAME.fullmatch(archive.maker):
        raise DeclarationError(
            f'{where}.made_by: "{archive.maker}" does not fit; use letters, digits, ".", "_" and "-"'
        )
    if archive.at is not None and (not _ADDRESS.fullmatch(archive.at) or ".." in archive.at.split("/")):
        raise DeclarationError(
            f'{where}.at: "{archive.at}" is no address of a lake; write "s3://bucket/prefix" or "file:///folder"'
        )
    try:
        size = size_bytes(archive.roll_size)
    except DeclarationError as error:
        raise DeclarationError(f"{where}.roll_size: {error}") from error
    if not _SIZES[0] <= size <= _SIZES[1]:
        raise DeclarationError(
            f'{where}.roll_size: "{archive.roll_size}" is held in memory for each partition; use 1 KB to 1 GB'
        )
    checks.bound(archive.roll_after, f"{where}.roll_after")
    rolls = checks.duration(archive.roll_after, f"{where}.roll_after")
    for name, given in (("fresh_within", archive.fresh_within), ("max_lag", archive.max_lag)):
        if checks.duration(given, f"{where}.{name}") <= rolls:
            raise DeclarationError(
                f'{where}.{name}: "{given}" is not longer than roll_after, "{archive.roll_after}", for which every '
                "record may wait; make it longer"
            )
    for column in archive.source.shape.fields:
        if column.name.lower() in _RESERVED:
            raise DeclarationError(
                f'{where}: its source has a column "{column.name}", which the lake has for itself; rename it, or '
                "archive a Derived that calls it otherwise"
            )


def compile_archive(
    archive: Archive, schema: AvroSchema, prefix: str, topic: dict[str, Any]
) -> tuple[TableRoute, TableProgram]:
    """How a checked archive is made. topic: the meaning of the source's own rules, for the version.

    The columns are no part of the version: a new field of the schema is in the files from then on, and the registry
    sees to it that old and new ones fit. Nor is the address: new files go to the new one, old ones stay readable.
    """
    definition = {"layout": LAYOUT, "archive": archive.name, "topic": archive.source.name, "source": topic}
    canonical = json.dumps(definition, sort_keys=True, separators=(",", ":"))
    version = hashlib.sha256(canonical.encode()).hexdigest()[:12]
    route = TableRoute(
        prefix=prefix,
        null_keys=(),
        texts=(),
        measures=(),
        where=None,
        window_micros=None,
        reasons=((f"_event_time NOT BETWEEN {_FIRST} AND {_LAST}", "no_date"),),
    )
    start = f"event_time - (event_time % {_DAY_MICROS} + {_DAY_MICROS}) % {_DAY_MICROS}"
    rows = (
        f"SELECT _i AS {INDEX}, CAST(({start}) // {_DAY_MICROS} AS INTEGER) AS {DAY}\n"
        f"FROM routed\nWHERE {prefix}applied\nORDER BY _i"
    )
    names = [field.name for field in schema.fields]
    own = [Column(PARTITION, "int32", ""), Column(OFFSET, "int64", ""), Column(TIMESTAMP, "timestamp[ms, UTC]", "")]
    program = TableProgram(
        table=archive,
        prefix=prefix,
        version=version,
        parts=(Part("", "", rows, "", "", ()),),
        key=(),
        states=(),
        columns=(*(Column(field.name, str(field.kind), "") for field in schema.fields), *own),
        window_micros=None,
        lateness_micros=0,
        final_sql=None,
        view_ddl=_view(archive.name, f"{archive.name}@{version}"),
        lineage={name: (name,) for name in names},
        definition=definition,
    )
    return route, program


def _view(name: str, version_id: str) -> str:
    """The files that readers go through: each record of the topic is in exactly one of them."""
    return (
        f"CREATE OR REPLACE VIEW public.{quoted(name)} AS\n"
        "SELECT file, date, partition, from_offset, to_offset, rows, bytes, sha256, written_at\n"
        f"FROM ledger.archive_files\nWHERE table_version = {text(version_id)} AND replaced_at IS NULL"
    )
