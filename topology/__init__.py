"""The vocabulary declarations are written in, and its compilers."""

from topology.aggregate import Aggregate
from topology.source import FileSource
from topology.topic import EventTime, Topic
from topology.window import Tumbling

__all__ = ["Aggregate", "EventTime", "FileSource", "Topic", "Tumbling", "compile_pipeline"]


def __getattr__(name: str) -> object:
    """`compile_pipeline`, imported on use: declarations need neither DuckDB nor sqlglot."""
    if name == "compile_pipeline":
        from topology.compile import compile_pipeline

        return compile_pipeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
