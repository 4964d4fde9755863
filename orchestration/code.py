"""Where an asset is declared, as links from the UI to the code."""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from dagster import CodeReferencesMetadataValue, LocalFileCodeReference


@dataclass(frozen=True)
class Place:
    """A declaration's file, and its line there."""

    file: Path
    line: int


def place(file: Path, name: str) -> Place:
    """The line in `file` on which the declaration called `name` begins; 1 when it cannot be told."""
    return Place(file, _lines(file).get(name, 1))


def references(declared: Place) -> dict[str, CodeReferencesMetadataValue]:
    """Metadata that makes the UI link to the declaration."""
    with warnings.catch_warnings():  # both classes are called beta, once for every asset
        warnings.simplefilter("ignore")
        return _references(declared)


def _references(declared: Place) -> dict[str, CodeReferencesMetadataValue]:
    where = LocalFileCodeReference(
        file_path=str(declared.file), line_number=declared.line, label=f"{declared.file.name}:{declared.line}"
    )
    return {"dagster/code_references": CodeReferencesMetadataValue(code_references=[where])}


@cache
def _lines(file: Path) -> dict[str, int]:
    """First line of every call at the top of a file, by the text that is its first argument."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except OSError:
        return {}
    found: dict[str, int] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            found.setdefault(str(node.args[0].value), node.lineno)
    return found
