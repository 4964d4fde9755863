"""What a topic is made of: another topic, a table's final rows, or the transitions of a table's rows."""

from __future__ import annotations

from typing import Any, overload

from headrace.errors import DeclarationError
from topology.aggregate import Aggregate
from topology.latest import Latest
from topology.topic import Topic


class Origin:
    """The field `source` of a `Derived`: takes a topic, a table that emits final rows or a `Latest`, and is a topic."""

    @overload
    def __get__(self, instance: None, owner: type) -> Origin: ...
    @overload
    def __get__(self, instance: object, owner: type) -> Topic: ...

    def __get__(self, instance: Any, owner: type) -> Origin | Topic:
        if instance is None:
            raise AttributeError("source")  # so that the dataclass finds no default here
        found: Topic = instance.__dict__["source"]
        return found

    def __set__(self, instance: Any, value: Topic | Aggregate | Latest) -> None:
        source: object = value
        if isinstance(value, Aggregate):
            source = value.final
        elif isinstance(value, Latest) and instance.on_transitions:
            source = value.transitions
        if not isinstance(source, Topic):
            name = getattr(value, "name", repr(value))
            raise DeclarationError(
                f"{instance.name}.source: {name} is no topic; give a topic, or an Aggregate whose final rows are one"
                + (", or a Latest" if instance.on_transitions else "")
            )
        instance.__dict__["source"] = source
