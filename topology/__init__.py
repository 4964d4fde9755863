"""The vocabulary declarations are written in, and its compilers."""

from typing import TYPE_CHECKING

from topology.aggregate import Aggregate
from topology.alert import Alert
from topology.archive import Archive
from topology.changes import Changes
from topology.dedup import Dedup
from topology.derived import Derived
from topology.expect import Between, Expect, Holds, InSet, NotNull, Unique
from topology.final import Final
from topology.join import Join
from topology.latest import Latest
from topology.lookup import Lookup
from topology.source import FileSource
from topology.topic import EventTime, Topic
from topology.view import Rolling, TopK, View
from topology.window import Count, Hopping, Session, Tumbling

if TYPE_CHECKING:
    from topology.compile import compile_pipeline

__all__ = [
    "Aggregate",
    "Alert",
    "Archive",
    "Between",
    "Changes",
    "Count",
    "Dedup",
    "Derived",
    "EventTime",
    "Expect",
    "FileSource",
    "Final",
    "Holds",
    "Hopping",
    "InSet",
    "Join",
    "Latest",
    "Lookup",
    "NotNull",
    "Rolling",
    "Session",
    "TopK",
    "Topic",
    "Tumbling",
    "Unique",
    "View",
    "compile_pipeline",
]


def __getattr__(name: str) -> object:
    """`compile_pipeline`, imported on use: declarations need neither DuckDB nor sqlglot."""
    if name == "compile_pipeline":
        import topology.compile

        return topology.compile.compile_pipeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
