"""Which landing files have arrived and are asked for: pure decisions over what was seen at two looks.

A file counts once it is unchanged for two looks. A run ingests all files of its topic, so none is asked for while one
of them still changes. What was asked for is not asked for again while it stays as it is: a file that cannot be ingested
fails one run and then waits for a person.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Set
from dataclasses import dataclass, field

Stamp = tuple[int, int]  # size in bytes, modification time in nanoseconds
Files = Mapping[str, Stamp]  # by name, relative to the landing folder


@dataclass(frozen=True)
class Memory:
    """What is kept of one topic from look to look: open files as last seen, and those that a run was asked for."""

    seen: Files = field(default_factory=dict)
    requested: Files = field(default_factory=dict)


@dataclass(frozen=True)
class Look:
    """The outcome of a look. request: files to ask a run for. changing: not the same as at the last look.

    waiting: arrived, while a run of the topic is on its way. left: asked for before, and not in the topic yet.
    """

    memory: Memory
    request: tuple[str, ...] = ()
    changing: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


def look(memory: Memory, found: Files, completed: Set[tuple[str, int]], *, busy: bool) -> Look:
    """Decide about one topic. completed: (name, size) of its files in the ledger; busy: a run of it is on its way."""
    still_open = {name: stamp for name, stamp in sorted(found.items()) if (name, stamp[0]) not in completed}
    changing = tuple(name for name, stamp in still_open.items() if memory.seen.get(name) != stamp)
    requested = {name: stamp for name, stamp in memory.requested.items() if still_open.get(name) == stamp}
    new = tuple(name for name in still_open if name not in requested and name not in changing)
    kept = Memory(still_open, requested)
    if busy:
        return Look(kept, changing=changing, waiting=new)
    left = tuple(requested)
    if changing or not new:
        return Look(kept, changing=changing, waiting=new, left=left)
    asked = Memory(still_open, requested | {name: still_open[name] for name in new})
    return Look(asked, request=new, left=left)


def run_key(topic: str, files: Files) -> str:
    """The same for the same set of files, so that Dagster itself never starts a second run for it."""
    text = json.dumps([topic, sorted((name, *stamp) for name, stamp in files.items())])
    return f"{topic}:{hashlib.sha256(text.encode()).hexdigest()[:24]}"


def dump(memories: Mapping[str, Memory]) -> str:
    """All topics' memories as a sensor's cursor."""
    return json.dumps({topic: {"seen": m.seen, "requested": m.requested} for topic, m in memories.items()})


def load(cursor: str | None) -> dict[str, Memory]:
    """The memories in a cursor; none for a cursor that nobody can read: the next two looks see everything anew."""
    try:
        found = json.loads(cursor or "{}")
        return {topic: Memory(_files(one["seen"]), _files(one["requested"])) for topic, one in found.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _files(found: Mapping[str, tuple[int, int]]) -> Files:
    return {name: (int(size), int(modified)) for name, (size, modified) in found.items()}
