"""What is wrong between declarations: each names another that is there, and no two get in each other's way."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from assets.catalog.reading import Table, alike
from headrace.errors import DeclarationError
from schemas.avro import did_you_mean
from topology import Aggregate, Derived, FileSource, Join, Latest, Topic
from topology.compile import compile_alone
from topology.emitted import EmittedTopic
from topology.final import FinalTopic
from topology.transition import TransitionTopic


def check_letters(topics: Mapping[str, Topic], places: Mapping[int, str]) -> None:
    """A topic of dead letters is no declared one: its worker would read what it has refused."""
    declared = {alike(topic.name): topic for topic in topics.values()}
    for topic in topics.values():
        other = declared.get(alike(topic.dead_letters)) if topic.dead_letters else None
        if other is not None:
            raise DeclarationError(
                f'{places[id(topic)]}: {topic.name}.dead_letters: "{topic.dead_letters}" is, or is too much like, topic'
                f" {other.name} of {places[id(other)]}; rename it"
            )


def check_topic(
    name: str,
    topic: Topic,
    topics: Mapping[str, Topic],
    place: str,
    remedy: str = "declare a Derived of the final rows, which is a topic",
) -> None:
    """The topic of a source, a table or an archive is a declared one."""
    if isinstance(topic, EmittedTopic | TransitionTopic | Aggregate | Latest):
        table = topic.table if isinstance(topic, EmittedTopic | TransitionTopic) else topic.name
        raise DeclarationError(
            f"{place}: {name}: neither table {table} nor its final rows are a topic for it; {remedy}"
        )
    if topics.get(topic.name) is not topic:
        hint = did_you_mean(topic.name, list(topics))
        raise DeclarationError(
            f'{place}: {name}: its topic "{topic.name}" is not declared by a name of its own at the top of a file{hint}'
        )


def check_origin(derived: Derived, topics: Mapping[str, Topic], tables: Mapping[str, Table], place: str) -> None:
    """What a topic is made of is a declared topic, or rows of a declared table."""
    source = derived.source
    if not isinstance(source, FinalTopic | TransitionTopic):
        check_topic(derived.name, source, topics, place)
    elif tables.get(source.table) is not source.of:
        raise DeclarationError(
            f'{place}: {derived.name}: its table "{source.table}" is not declared by a name of its own at the top of a '
            f"file{did_you_mean(source.table, list(tables))}"
        )


def check_read(topics: Mapping[str, Topic], places: Mapping[int, str]) -> None:
    """What is wrong with a table whose rows are read is said of the table, not of who reads them."""
    read = {derived.source.name: derived.source for derived in topics.values() if isinstance(derived, Derived)}
    for topic in sorted(read.values(), key=lambda topic: topic.depth):
        if isinstance(topic, FinalTopic | TransitionTopic):
            table = topic.of
            compile_alone(table, place=places[id(table.source)], places={table.name: places[id(table)]})


def check_chains(joins: Mapping[str, Join], places: Mapping[int, str]) -> None:
    """A join that is the side of another is declared itself."""
    for join in joins.values():
        of = join.left
        if isinstance(of, Join) and joins.get(of.name) is not of:
            raise DeclarationError(
                f'{places[id(join)]}: {join.name}: its join "{of.name}" is not declared by a name of its own at the top'
                f" of a file{did_you_mean(of.name, list(joins))}"
            )


def check_source(source: FileSource, paths: dict[str, str], place: str) -> None:
    """A file source by itself, and that none of those in `paths` reads its files."""
    where = f"{place}: {source.name}"
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", source.name):
        raise DeclarationError(f'{where}: source name does not fit; use a letter, then letters, digits and "_"')
    if source.format not in ("csv", "json"):
        raise DeclarationError(f'{where}.format: "{source.format}" is unknown; use csv or json')
    path = PurePosixPath(source.path)
    if not source.path or path.is_absolute() or ".." in path.parts:
        raise DeclarationError(
            f'{where}.path: "{source.path}" must lie inside the landing folder; write "orders/*.csv"'
        )
    other = paths.setdefault(source.path, source.name)
    if other != source.name:
        raise DeclarationError(f'{where}.path: "{source.path}" is read by source "{other}" already; change one')
    if isinstance(source.topic, Derived):
        raise DeclarationError(
            f"{where}.topic: {source.topic.name} is derived from {source.topic.source.name}, and its worker alone "
            "writes it; ingest into a Topic"
        )
    schema = source.topic.shape
    for name in source.columns:
        if name not in schema.by_name:
            hint = did_you_mean(name, list(schema.by_name))
            raise DeclarationError(
                f'{where}.columns: column "{name}" does not exist in {source.topic.shape_name}{hint}'
            )
