"""How commands print: tables for people, `--json` for machines."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console

F = TypeVar("F", bound=Callable[..., Any])


def json_option(function: F) -> F:
    """The `--json` flag of a command, passed to it as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")(function)


def console() -> Console:
    """Standard output: colours on a terminal, plain text of unlimited width elsewhere."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=200, no_color=True, highlight=False)


def show_json(value: Any) -> None:
    """`value` (dataclasses, bytes and times allowed) as one JSON document on standard output."""
    click.echo(json.dumps(value, default=plain, indent=2))


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str = "none") -> None:
    """A table with numbers at the right; the line `title: empty` when there are no rows."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    found = [list(row) for row in rows]
    if not found:
        click.echo(f"{title}: {empty}")
        return
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for position, column in enumerate(columns):
        numeric = all(isinstance(row[position], int | float) or row[position] is None for row in found)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in found:
        table.add_row(*(Text(cell(value)) for value in row))  # no markup in data
    console().print(table)


def cell(value: Any) -> str:
    """`value` as people read it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.1f}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%SZ")
    if isinstance(value, list | tuple):
        return " ".join(str(part) for part in value)
    return str(value)


def plain(value: Any) -> Any:
    """JSON form of what `json` does not know; raises `TypeError` for the rest."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, bytes):
        return {"hex": value.hex(), "text": readable(value)}
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal | PurePath):
        return str(value)
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def readable(payload: bytes | None, limit: int = 200) -> str:
    """The first bytes of a payload as text, unprintable ones as `\\x..`."""
    if payload is None:
        return "(null)"
    text = payload[:limit].decode("utf-8", "backslashreplace")
    shown = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
    return shown + ("..." if len(payload) > limit else "")
