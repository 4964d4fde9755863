"""What a long-running process leaves out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class _NoPandas(MetaPathFinder):
    """Answers `import pandas` as if it were not installed."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """No spec for any name; an error for pandas."""
        if name == "pandas":
            raise ModuleNotFoundError("pandas is left out of this process", name=name)
        return None


def without_pandas() -> None:
    """Keep pyarrow from importing pandas in this process, unless somebody has already.

    `pyarrow.array` imports pandas to see whether its argument is a Series: about two CPU-seconds and 60 MB in a process
    that never meets one.
    """
    if "pandas" not in sys.modules:
        sys.meta_path.insert(0, _NoPandas())
