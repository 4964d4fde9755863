"""The catalog: every declaration of a package, checked, and compiled to the programs of its pipelines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from assets.catalog.checks import check_chains, check_letters, check_origin, check_read, check_source, check_topic
from assets.catalog.compiling import compile_pipelines, emitted
from assets.catalog.reading import Declaration, Named, Table, by_name, declared, file_of, modules, what_of
from headrace.errors import DeclarationError
from schemas.avro import did_you_mean
from topology import Archive, Derived, Expect, FileSource, Join, Topic, View
from topology.check_expect import Expected, compile_expects
from topology.emitted import EmittedTopic
from topology.join_compile import compile_join, with_joins
from topology.program import JoinProgram, PipelineProgram, TableProgram, ViewProgram


@dataclass(frozen=True)
class Catalog:
    """What exists, by name. pipelines: by the name of the worker group. expectations: by table, for tables with any.

    emitted: the topics of tables' rows, which no declaration of their own makes.
    """

    topics: Mapping[str, Topic]
    sources: Mapping[str, FileSource]
    tables: Mapping[str, TableProgram]
    archives: Mapping[str, TableProgram]
    pipelines: Mapping[str, PipelineProgram]
    views: Mapping[str, ViewProgram]
    joins: Mapping[str, JoinProgram]
    expectations: Mapping[str, tuple[Expected, ...]]
    emitted: Mapping[str, EmittedTopic]
    _places: Mapping[int, str] = field(repr=False)
    _files: Mapping[str, Path] = field(repr=False)

    def place(self, declaration: Declaration) -> str:
        """The file in which something is declared, such as `assets/orders.py`."""
        return self._places[id(declaration)]

    def file(self, declaration: Declaration) -> Path:
        """The same file on this machine."""
        return self._files[self.place(declaration)]

    def system(self, declaration: Declaration) -> str:
        """The system something belongs to: the name of its declaration file, such as `orders`."""
        return PurePosixPath(self.place(declaration)).stem

    @property
    def provisioned(self) -> list[Topic]:
        """Every topic that Kafka must have, sources before what is made of them."""
        return sorted([*self.topics.values(), *self.emitted.values()], key=lambda topic: topic.depth)

    def sources_of(self, topic: Topic) -> list[FileSource]:
        """The file sources that are ingested into a topic."""
        return [source for source in self.sources.values() if source.topic.name == topic.name]


def load(package: str = "assets") -> Catalog:
    """The declarations of all modules of a package (of the checkout, or importable from the current folder).

    Raises `DeclarationError`: one line that names file, declaration, column and remedy.
    """
    read_in = list(modules(package))
    found = [item for module in read_in for item in declared(module, file_of(module))]
    files = {file_of(module): Path(module.__file__).resolve() for module in read_in if module.__file__}
    places = {id(item): place for place, item in found}
    topics = by_name([(place, item) for place, item in found if isinstance(item, Topic)], "topic")
    sources = by_name([(place, item) for place, item in found if isinstance(item, FileSource)], "source")
    readable = by_name([(place, item) for place, item in found if isinstance(item, Named)], "table")
    tables = {name: item for name, item in readable.items() if isinstance(item, Table)}
    archives = {name: item for name, item in readable.items() if isinstance(item, Archive)}
    views = {name: item for name, item in readable.items() if isinstance(item, View)}
    joins = {name: item for name, item in readable.items() if isinstance(item, Join)}
    check_letters(topics, places)
    paths: dict[str, str] = {}
    for source in sources.values():
        check_topic(source.name, source.topic, topics, places[id(source)], "ingest into a Topic")
        check_source(source, paths, places[id(source)])
    readers: list[Table | Archive] = [*tables.values(), *archives.values()]
    for reader in readers:
        check_topic(reader.name, reader.source, topics, places[id(reader)])
    read: list[tuple[View | Join, object]] = [(view, view.table) for view in views.values()]
    read += [(join, table) for join in joins.values() for table in join.tables if isinstance(table, Table)]
    for view, of in read:
        name = getattr(of, "name", repr(of))
        if tables.get(name) is not of:
            raise DeclarationError(
                f'{places[id(view)]}: {view.name}: its table "{name}" is not declared by a name of its own at the top'
                f" of a file{did_you_mean(name, list(tables))}"
            )
    check_chains(joins, places)
    for item in readable.values():
        if item.name in topics:
            place = places[id(topics[item.name])]
            what = f'{what_of(item, "table")} "{item.name}"'
            raise DeclarationError(f"{places[id(item)]}: {what} has the name of a topic of {place}; rename it")
    for derived in topics.values():
        if isinstance(derived, Derived):
            check_origin(derived, topics, tables, places[id(derived)])
    check_read(topics, places)
    pipelines = compile_pipelines(topics, [*tables.values(), *views.values()], archives, places)
    programs = {table.name: table for pipeline in pipelines.values() for table in pipeline.tables}
    # What is wrong with a join is said of it, before those that it is a side of.
    chained = sorted(joins.items(), key=lambda named: len(named[1].tables))
    joined = {name: compile_join(join, programs, places[id(join)]) for name, join in chained}
    pipelines = {name: with_joins(pipeline, joined.values()) for name, pipeline in pipelines.items()}
    expects = compile_expects(
        [(place, item) for place, item in found if isinstance(item, Expect)], {name: programs[name] for name in tables}
    )
    return Catalog(
        topics=topics,
        sources=sources,
        tables={name: programs[name] for name in tables},
        archives={name: programs[name] for name in archives},
        pipelines=pipelines,
        views={view.name: view for pipeline in pipelines.values() for view in pipeline.views},
        joins=joined,
        expectations=expects,
        emitted=emitted([programs[name] for name in tables], topics, readable, places),
        _places=places,
        _files=files,
    )
