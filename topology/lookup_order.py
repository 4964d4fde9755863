"""Which pipelines come before which: what is looked up in before those that look up in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from headrace.errors import DeclarationError
from topology.aggregate import Aggregate
from topology.latest import Latest
from topology.lookup import Lookup
from topology.topic import Topic


def in_order(topics: Sequence[Topic], tables: Iterable[Aggregate | Latest], places: Mapping[int, str]) -> list[Topic]:
    """The topics, those of looked-up tables before those of the tables that look up in them, else as they are.

    Raises `DeclarationError` for pipelines that look up in each other: each would wait for the other. places: the file
    of each table, by its `id`.
    """
    edges: dict[str, dict[str, Aggregate | Latest]] = {}
    for table in tables:
        lookups = table.lookups if isinstance(table.lookups, Sequence) else ()
        of = [one.table for one in lookups if isinstance(one, Lookup) and isinstance(one.table, Latest)]
        for other in of:
            if other.source.name != table.source.name:
                edges.setdefault(table.source.name, {})[other.source.name] = table
    by_name = {topic.name: topic for topic in topics}
    found: dict[str, Topic] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            table = edges[path[-1]][name]
            circle = " -> ".join(by_name[one].pipeline_name for one in (*path[path.index(name) :], name))
            raise DeclarationError(
                f"{places[id(table)]}: {table.name}.lookups: pipelines look up in each other ({circle}), so each would "
                "wait for the other; give one of the tables a topic of its own with Derived(...)"
            )
        for other in edges.get(name, {}):
            if other in by_name:
                visit(other, (*path, name))
        found.setdefault(name, by_name[name])

    for topic in topics:
        visit(topic.name, ())
    return list(found.values())
