"""One demo at a time per home: two would start and stop each other's processes."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from headrace.errors import UsageError
from stack import Home


@contextmanager
def only_one(home: Home) -> Iterator[None]:
    """Hold the demo's lock; `UsageError` when another demo has it."""
    with (home.folder("run") / "demo.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"a demo is running already in {home.root}; stop it with Ctrl-C, or set HEADRACE_HOME for a second one"
            ) from error
        yield
