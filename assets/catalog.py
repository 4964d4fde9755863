"""The catalog: every declaration of a package, checked, and compiled to the programs of its pipelines."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import TypeVar

from headrace.errors import DeclarationError
from schemas.avro import did_you_mean
from topology import Aggregate, Archive, Derived, Expect, FileSource, Join, Latest, Topic, View
from topology.check_expect import Expected, compile_expects
from topology.compile import compile_alone, compile_pipeline
from topology.final import FinalTopic
from topology.join_compile import compile_join, with_joins
from topology.lookup_order import in_order
from topology.program import JoinProgram, PipelineProgram, TableProgram, ViewProgram

Table = Aggregate | Latest
Declaration = Topic | FileSource | Table | Archive | View | Join | Expect
_KINDS = (
    "Topic",
    "FileSource",
    "Derived",
    "Alert",
    "Aggregate",
    "Latest",
    "Archive",
    "Rolling",
    "TopK",
    "Join",
    "Expect",
)
_Named = Table | Archive | View | Join  # what has a name in the schema public
_T = TypeVar("_T", Topic, FileSource, _Named)


@dataclass(frozen=True)
class Catalog:
    """What exists, by name. pipelines: by the name of the worker group. expectations: by table, for tables with any.

    emitted: the topics of tables' final rows, which no declaration of their own makes.
    """

    topics: Mapping[str, Topic]
    sources: Mapping[str, FileSource]
    tables: Mapping[str, TableProgram]
    archives: Mapping[str, TableProgram]
    pipelines: Mapping[str, PipelineProgram]
    views: Mapping[str, ViewProgram]
    joins: Mapping[str, JoinProgram]
    expectations: Mapping[str, tuple[Expected, ...]]
    emitted: Mapping[str, FinalTopic]
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
    modules = list(_modules(package))
    found = [item for module in modules for item in _declared(module, _file_of(module))]
    files = {_file_of(module): Path(module.__file__).resolve() for module in modules if module.__file__}
    places = {id(item): place for place, item in found}
    topics = _by_name([(place, item) for place, item in found if isinstance(item, Topic)], "topic")
    sources = _by_name([(place, item) for place, item in found if isinstance(item, FileSource)], "source")
    readable = _by_name([(place, item) for place, item in found if isinstance(item, _Named)], "table")
    tables = {name: item for name, item in readable.items() if isinstance(item, Table)}
    archives = {name: item for name, item in readable.items() if isinstance(item, Archive)}
    views = {name: item for name, item in readable.items() if isinstance(item, View)}
    joins = {name: item for name, item in readable.items() if isinstance(item, Join)}
    _check_letters(topics, places)
    paths: dict[str, str] = {}
    for source in sources.values():
        _check_topic(source.name, source.topic, topics, places[id(source)], "ingest into a Topic")
        _check_source(source, paths, places[id(source)])
    readers: list[Table | Archive] = [*tables.values(), *archives.values()]
    for reader in readers:
        _check_topic(reader.name, reader.source, topics, places[id(reader)])
    read: list[tuple[View | Join, object]] = [(view, view.table) for view in views.values()]
    read += [(join, table) for join in joins.values() for table in join.tables if isinstance(table, Table)]
    for view, of in read:
        name = getattr(of, "name", repr(of))
        if tables.get(name) is not of:
            raise DeclarationError(
                f'{places[id(view)]}: {view.name}: its table "{name}" is not declared by a name of its own at the top'
                f" of a file{did_you_mean(name, list(tables))}"
            )
    for item in readable.values():
        if item.name in topics:
            place = places[id(topics[item.name])]
            what = f'{_what(item, "table")} "{item.name}"'
            raise DeclarationError(f"{places[id(item)]}: {what} has the name of a topic of {place}; rename it")
    for derived in topics.values():
        if isinstance(derived, Derived):
            _check_origin(derived, topics, tables, places[id(derived)])
    _check_read(topics, places)
    pipelines = _compile(topics, [*tables.values(), *views.values()], archives, places)
    programs = {table.name: table for pipeline in pipelines.values() for table in pipeline.tables}
    joined = {name: compile_join(join, programs, places[id(join)]) for name, join in joins.items()}
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
        emitted=_emitted([programs[name] for name in tables], topics, readable, places),
        _places=places,
        _files=files,
    )


def _modules(package: str) -> Iterator[ModuleType]:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        root = importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package.partition(".")[0] and error.name != package:
            raise DeclarationError(_failed(package, error)) from error
        raise DeclarationError(
            f'no Python package "{package}" in {here}; set HEADRACE_CATALOG to the package with your declarations'
        ) from error
    except Exception as error:
        raise DeclarationError(_failed(package, error)) from error
    yield root
    for info in sorted(pkgutil.iter_modules(getattr(root, "__path__", [])), key=lambda info: info.name):
        if f"{package}.{info.name}" == __name__:
            continue
        try:
            yield importlib.import_module(f"{package}.{info.name}")
        except Exception as error:
            raise DeclarationError(_failed(f"{package}.{info.name}", error)) from error


def _failed(module: str, error: Exception) -> str:
    """One line for a declaration file that cannot be executed."""
    file = module.replace(".", "/") + ".py"
    line = getattr(error, "lineno", None) if isinstance(error, SyntaxError) else None
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename.endswith(file):
            line = frame.lineno
    kind = "" if isinstance(error, DeclarationError) else f"{type(error).__name__}: "
    first = (str(error).splitlines() or [""])[0]
    return f"{file}{f':{line}' if line else ''}: {kind}{first}"


def _file_of(module: ModuleType) -> str:
    suffix = "/__init__.py" if hasattr(module, "__path__") else ".py"
    return module.__name__.replace(".", "/") + suffix


def _declared(module: ModuleType, place: str) -> list[tuple[str, Declaration]]:
    """The declarations a module makes, in order; those it imports belong to the module they come from."""
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8")) if module.__file__ else ast.Module([], [])
    for node in tree.body:  # a table that is nowhere used would be missed as well, an expectation silently so
        kind = ast.unparse(node.value.func) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) else ""
        if kind in _KINDS:
            raise DeclarationError(f"{place}:{node.lineno}: {kind}(...) has no name, so nothing finds it; give it one")
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imported = {alias.asname or alias.name for node in imports for alias in node.names}
    values = [value for name, value in vars(module).items() if name not in imported]
    unique = {id(value): value for value in values if isinstance(value, Declaration)}
    return [(place, value) for value in unique.values()]


def _by_name(found: list[tuple[str, _T]], what: str) -> dict[str, _T]:
    names: dict[str, tuple[str, _T]] = {}
    for place, item in found:
        alike = _alike(item.name)
        if alike in names:
            other_place, other = names[alike]
            same = "" if other.name == item.name else f' as "{other.name}", which is too much alike'
            raise DeclarationError(
                f'{place}: {_what(item, what)} "{item.name}" is declared in {other_place} already{same}; rename one'
            )
        names[alike] = (place, item)
    return {item.name: item for _, item in names.values()}


def _what(item: object, otherwise: str) -> str:
    if isinstance(item, Archive):
        return "archive"
    if isinstance(item, Join):
        return "join"
    return "view" if isinstance(item, View) else otherwise


def _alike(name: str) -> str:
    """What names have in common that Kafka's metrics or Dagster's names cannot tell apart."""
    return re.sub(r"[.-]", "_", name).lower()


def _check_letters(topics: Mapping[str, Topic], places: Mapping[int, str]) -> None:
    """A topic of dead letters is no declared one: its worker would read what it has refused."""
    declared = {_alike(topic.name): topic for topic in topics.values()}
    for topic in topics.values():
        other = declared.get(_alike(topic.dead_letters)) if topic.dead_letters else None
        if other is not None:
            raise DeclarationError(
                f'{places[id(topic)]}: {topic.name}.dead_letters: "{topic.dead_letters}" is, or is too much like, topic'
                f" {other.name} of {places[id(other)]}; rename it"
            )


def _check_topic(
    name: str,
    topic: Topic,
    topics: Mapping[str, Topic],
    place: str,
    remedy: str = "declare a Derived of the final rows, which is a topic",
) -> None:
    if isinstance(topic, FinalTopic | Aggregate | Latest):
        table = topic.table if isinstance(topic, FinalTopic) else topic.name
        raise DeclarationError(
            f"{place}: {name}: neither table {table} nor its final rows are a topic for it; {remedy}"
        )
    if topics.get(topic.name) is not topic:
        hint = did_you_mean(topic.name, list(topics))
        raise DeclarationError(
            f'{place}: {name}: its topic "{topic.name}" is not declared by a name of its own at the top of a file{hint}'
        )


def _check_origin(derived: Derived, topics: Mapping[str, Topic], tables: Mapping[str, Table], place: str) -> None:
    source = derived.source
    if not isinstance(source, FinalTopic):
        _check_topic(derived.name, source, topics, place)
    elif tables.get(source.table) is not source.of:
        raise DeclarationError(
            f'{place}: {derived.name}: its table "{source.table}" is not declared by a name of its own at the top of a '
            f"file{did_you_mean(source.table, list(tables))}"
        )


def _check_read(topics: Mapping[str, Topic], places: Mapping[int, str]) -> None:
    """What is wrong with a table whose final rows are read is said of the table, not of who reads them."""
    read = {derived.source.name: derived.source for derived in topics.values() if isinstance(derived, Derived)}
    for topic in sorted(read.values(), key=lambda topic: topic.depth):
        if isinstance(topic, FinalTopic):
            table = topic.of
            compile_alone(table, place=places[id(table.source)], places={table.name: places[id(table)]})


def _check_source(source: FileSource, paths: dict[str, str], place: str) -> None:
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


def _emitted(
    programs: Sequence[TableProgram],
    topics: Mapping[str, Topic],
    readable: Mapping[str, _Named],
    places: Mapping[int, str],
) -> dict[str, FinalTopic]:
    """The topics of final rows by name: none is anything else already."""
    taken = {_alike(topic.name): f"topic {topic.name} of {places[id(topic)]}" for topic in topics.values()}
    finals = [program.final.topic for program in programs if program.final]
    for topic in [*topics.values(), *finals]:
        if topic.dead_letters:
            taken.setdefault(_alike(topic.dead_letters), f"the dead-letter topic of {topic.name}")
    views = {_alike(item.name): item.name for item in readable.values()}
    found = {}
    for program in programs:
        if program.final is None:
            continue
        where, name, view = (
            f"{places[id(program.table)]}: {program.name}.emit",
            program.final.topic.name,
            program.final.view,
        )
        if _alike(name) in taken:
            raise DeclarationError(f'{where}.topic: "{name}" is, or is too much like, {taken[_alike(name)]}; rename it')
        if _alike(view) in views:
            raise DeclarationError(
                f'{where}: its final rows are shown as the view "{view}", and {views[_alike(view)]} is declared; rename'
                " that one"
            )
        taken[_alike(name)] = f"the topic of table {program.name}"
        found[name] = program.final.topic
    return found


def _compile(
    topics: Mapping[str, Topic],
    readable: Sequence[Table | View],
    archives: Mapping[str, Archive],
    places: Mapping[int, str],
) -> dict[str, PipelineProgram]:
    readers: dict[str, tuple[str, Topic | Archive]] = {}
    pipelines: dict[str, PipelineProgram] = {}

    def check_reader(name: str, reader: Topic | Archive, where: str) -> None:
        other_name, other = readers.setdefault(_alike(name), (name, reader))
        if other is not reader:
            same = "" if other_name == name else f' as "{other_name}", which is too much alike,'
            raise DeclarationError(f'{where}: "{name}"{same} reads topic {other.name} already; name another pipeline')

    for group in _makers(topics, archives):
        first = group[0]
        maker, source, where = first.maker, first.source, {one.name: places[id(one)] for one in group}
        for one in group:
            if one.source is not source:
                raise DeclarationError(
                    f'{where[one.name]}: {one.name}.made_by: "{maker}" makes {first.name} from topic '
                    f"{source.name} already; name another"
                )
        check_reader(maker, first, f"{where[first.name]}: {first.name}.made_by")
        origin = places[id(source.of if isinstance(source, FinalTopic) else source)]
        pipelines[maker] = compile_pipeline(maker, source, group, place=origin, places=where)
    compiled: dict[str, TableProgram] = {}
    for topic in in_order(list(topics.values()), (one for one in readable if isinstance(one, Table)), places):
        name, place = topic.pipeline_name, places[id(topic)]
        check_reader(name, topic, f"{place}: {topic.name}.pipeline")
        fed = [one for one in readable if (one.table if isinstance(one, View) else one).source is topic]
        where = {one.name: places[id(one)] for one in fed}
        program = compile_pipeline(name, topic, fed, place=place, places=where, others=compiled)
        compiled |= {table.name: table for table in program.tables}
        if fed:
            pipelines[name] = program
    return pipelines


def _makers(
    topics: Mapping[str, Topic], archives: Mapping[str, Archive]
) -> list[Sequence[Derived] | Sequence[Archive]]:
    """What each worker group beside those of tables makes: derived topics (sources first) or lakes."""
    derives: dict[str, list[Derived]] = {}
    for derived in sorted(
        (topic for topic in topics.values() if isinstance(topic, Derived)), key=lambda one: one.depth
    ):
        derives.setdefault(derived.maker, []).append(derived)
    lakes: dict[str, list[Archive]] = {}
    for archive in archives.values():
        lakes.setdefault(archive.maker, []).append(archive)
    return [*derives.values(), *lakes.values()]
