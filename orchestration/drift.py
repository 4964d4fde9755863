"""What is there against what is declared: topics, schemas, tables. Imported by runs only; nothing is altered."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from headrace.settings import Settings
from ledger import table_versions, views
from ledger.connection import connect
from topology.program import Column, TableProgram

_SAME = {"timestamptz": "timestamp with time zone", "timestamp": "timestamp without time zone"}


@dataclass(frozen=True)
class TableDrift:
    """What a table has otherwise than declared. rebuild: it was built by another declaration."""

    lines: tuple[str, ...]
    rebuild: bool = False
    built: bool = True


def tables(settings: Settings, programs: Sequence[TableProgram]) -> dict[str, TableDrift]:
    """The drift of each table; `ServiceUnavailable` when Postgres does not answer."""
    with closing(connect(settings.need_postgres(), application="headrace drift")) as db:
        return {
            program.name: of_table(program, table_versions.live(db, program.name), views.columns(db, program.name))
            for program in programs
        }


def of_table(program: TableProgram, live: str | None, found: list[tuple[str, str]] | None) -> TableDrift:
    """Compare a declaration with the live version and the view's columns."""
    pipeline = program.table.source.pipeline_name
    if live is None:
        return TableDrift((), built=False)
    if live != program.version_id:
        return TableDrift(
            (
                f"the live version is {live} and the declaration is {program.version_id}: its worker refuses to start; "
                f"run `headrace pipeline rebuild {pipeline}`",
            ),
            rebuild=True,
        )
    if found is None:
        return TableDrift(
            (f"the view public.{program.name} is gone; run `headrace pipeline rebuild {pipeline}`",), rebuild=True
        )
    return TableDrift(tuple(_columns(program.columns, found, pipeline)))


def _columns(declared: Sequence[Column], found: Sequence[tuple[str, str]], pipeline: str) -> list[str]:
    remedy = f"somebody changed the view; `headrace pipeline rebuild {pipeline}` makes it anew"
    here = dict(found)
    lines = [f'column "{c.name}" is declared and missing; {remedy}' for c in declared if c.name not in here]
    names = {column.name for column in declared}
    lines += [f'column "{name}" ({kind}) is not declared; {remedy}' for name, kind in found if name not in names]
    lines += [
        f'column "{c.name}" is declared as {plain(c.pg_type)} and is {here[c.name]}; {remedy}'
        for c in declared
        if c.name in here and not _same(plain(c.pg_type), here[c.name])
    ]
    if not lines and [column.name for column in declared] != [name for name, _ in found]:
        lines.append(f"the columns are in another order than declared; {remedy}")
    return lines


def plain(pg_type: str) -> str:
    """A declared type as Postgres names it, without its collation."""
    name = pg_type.partition(" COLLATE")[0]
    return _SAME.get(name, name)


def _same(declared: str, found: str) -> bool:
    """Equal types; an aggregate in a view drops the modifier of a numeric, so none there is no difference."""
    return declared == found or declared.partition("(")[0] == found
