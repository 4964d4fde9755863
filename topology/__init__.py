"""The vocabulary declarations are written in, and its compilers."""

from topology.aggregate import Aggregate
from topology.source import FileSource
from topology.topic import EventTime, Topic
from topology.window import Tumbling

__all__ = ["Aggregate", "EventTime", "FileSource", "Topic", "Tumbling"]
