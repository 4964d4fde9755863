"""The catalog of the tests as the environment says now: its declarations read variables when they are imported."""

from __future__ import annotations

import sys

from assets import catalog


def load() -> catalog.Catalog:
    """Import the declarations anew, and leave no module behind that others would find with an older environment."""
    _forget()
    try:
        return catalog.load("tests.catalogs")
    finally:
        _forget()


def _forget() -> None:
    for name in [name for name in sys.modules if name.startswith("tests.catalogs.")]:
        del sys.modules[name]
