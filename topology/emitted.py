"""Topics of a table's rows: its worker alone writes them, and no declaration of their own makes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Self

from topology.topic import Topic

if TYPE_CHECKING:
    from schemas.avro import AvroSchema
    from topology.aggregate import Aggregate
    from topology.latest import Latest


@dataclass(frozen=True)
class EmittedTopic(Topic):
    """The topic of rows of `of`, which its worker alone writes."""

    of: Aggregate | Latest = field(kw_only=True, repr=False)

    @property
    def table(self) -> str:
        """Name of the table."""
        return self.of.name

    @property
    def depth(self) -> int:
        """One step after the source of its table."""
        return 1 + self.of.source.depth

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The group columns, whose texts are the record key together."""
        return tuple(self.of.by)

    @cached_property
    def shape(self) -> AvroSchema:
        """The schema of its records, which the compiled table knows; raises `DeclarationError`."""
        from topology.compile import compile_alone

        compile_alone(self.of, place=self.shape_name)
        return self.shape  # now known

    def known(self, shape: AvroSchema) -> Self:
        """The same topic, which need not ask what the compiled table has just said."""
        self.__dict__["shape"] = shape  # where the property keeps it
        return self

    @property
    def shape_name(self) -> str:
        """What errors call the schema."""
        return f"the rows of {self.table}"

    @property
    def emitted_when(self) -> str:
        """When a row is sent, for people."""
        raise NotImplementedError
