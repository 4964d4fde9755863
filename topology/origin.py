"""What a topic is made of: another topic, or a table's final rows."""

from __future__ import annotations

from typing import Any, overload

from headrace.errors import DeclarationError
from topology.aggregate import Aggregate
from topology.topic import Topic


class Origin:
    """The field `source` of a `Derived`: takes a topic, or a table that emits, and is the topic in both cases."""

    @overload
    def __get__(self, instance: None, owner: type) -> Origin: ...
    @overload
    def __get__(self, instance: object, owner: type) -> Topic: ...

    def __get__(self, instance: Any, owner: type) -> Origin | Topic:
        if instance is None:
            raise AttributeError("source")  # so that the dataclass finds no default here
        found: Topic = instance.__dict__["source"]
        return found

    def __set__(self, instance: Any, value: Topic | Aggregate) -> None:
        source = value.final if isinstance(value, Aggregate) else value
        if not isinstance(source, Topic):
            name = getattr(value, "name", repr(value))
            raise DeclarationError(
                f"{instance.name}.source: {name} is no topic; give a topic, or an Aggregate whose final rows are one"
            )
        instance.__dict__["source"] = source
