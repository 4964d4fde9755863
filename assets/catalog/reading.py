"""Finding declarations: the modules of a package, what each of them declares, and names that must differ."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from headrace.errors import DeclarationError
from topology import Aggregate, Archive, Expect, FileSource, Join, Latest, Topic, View

Table = Aggregate | Latest
Declaration = Topic | FileSource | Table | Archive | View | Join | Expect
_KINDS = (
    "Topic",
    "FileSource",
    "Derived",
    "Alert",
    "Aggregate",
    "Latest",
    "Archive",
    "Rolling",
    "TopK",
    "Join",
    "Expect",
)
Named = Table | Archive | View | Join  # what has a name in the schema public
_T = TypeVar("_T", Topic, FileSource, Named)


def modules(package: str) -> Iterator[ModuleType]:
    """The package and its modules, this one's own package left out; `DeclarationError` when one cannot be executed."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        root = importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package.partition(".")[0] and error.name != package:
            raise DeclarationError(_failed(package, error)) from error
        raise DeclarationError(
            f'no Python package "{package}" in {here}; set HEADRACE_CATALOG to the package with your declarations'
        ) from error
    except Exception as error:
        raise DeclarationError(_failed(package, error)) from error
    yield root
    for info in sorted(pkgutil.iter_modules(getattr(root, "__path__", [])), key=lambda info: info.name):
        if f"{package}.{info.name}" == __package__:
            continue
        try:
            yield importlib.import_module(f"{package}.{info.name}")
        except Exception as error:
            raise DeclarationError(_failed(f"{package}.{info.name}", error)) from error


def _failed(module: str, error: Exception) -> str:
    """One line for a declaration file that cannot be executed."""
    file = module.replace(".", "/") + ".py"
    line = getattr(error, "lineno", None) if isinstance(error, SyntaxError) else None
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename.endswith(file):
            line = frame.lineno
    kind = "" if isinstance(error, DeclarationError) else f"{type(error).__name__}: "
    first = (str(error).splitlines() or [""])[0]
    return f"{file}{f':{line}' if line else ''}: {kind}{first}"


def file_of(module: ModuleType) -> str:
    """The file of a module as errors name it, such as `assets/orders.py`."""
    suffix = "/__init__.py" if hasattr(module, "__path__") else ".py"
    return module.__name__.replace(".", "/") + suffix


def declared(module: ModuleType, place: str) -> list[tuple[str, Declaration]]:
    """The declarations a module makes, in order; those it imports belong to the module they come from."""
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8")) if module.__file__ else ast.Module([], [])
    for node in tree.body:  # a table that is nowhere used would be missed as well, an expectation silently so
        kind = ast.unparse(node.value.func) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) else ""
        if kind in _KINDS:
            raise DeclarationError(f"{place}:{node.lineno}: {kind}(...) has no name, so nothing finds it; give it one")
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imported = {alias.asname or alias.name for node in imports for alias in node.names}
    values = [value for name, value in vars(module).items() if name not in imported]
    unique = {id(value): value for value in values if isinstance(value, Declaration)}
    return [(place, value) for value in unique.values()]


def by_name(found: list[tuple[str, _T]], what: str) -> dict[str, _T]:
    """Declarations (with their places) by name; `DeclarationError` when two names are too much alike."""
    names: dict[str, tuple[str, _T]] = {}
    for place, item in found:
        known = alike(item.name)
        if known in names:
            other_place, other = names[known]
            same = "" if other.name == item.name else f' as "{other.name}", which is too much alike'
            raise DeclarationError(
                f'{place}: {what_of(item, what)} "{item.name}" is declared in {other_place} already{same}; rename one'
            )
        names[known] = (place, item)
    return {item.name: item for _, item in names.values()}


def what_of(item: object, otherwise: str) -> str:
    """What errors call a declaration."""
    if isinstance(item, Archive):
        return "archive"
    if isinstance(item, Join):
        return "join"
    return "view" if isinstance(item, View) else otherwise


def alike(name: str) -> str:
    """What names have in common that Kafka's metrics or Dagster's names cannot tell apart."""
    return re.sub(r"[.-]", "_", name).lower()
