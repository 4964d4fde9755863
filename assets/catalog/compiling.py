"""From checked declarations to the programs of worker groups, and the topics that tables emit to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from assets.catalog.reading import Named, Table, alike
from headrace.errors import DeclarationError
from topology import Alert, Archive, Derived, Topic, View
from topology.compile import compile_pipeline
from topology.emitted import EmittedTopic
from topology.final import FinalTopic
from topology.lookup_order import in_order
from topology.program import PipelineProgram, TableProgram
from topology.transition_compile import with_transitions


def compile_pipelines(
    topics: Mapping[str, Topic],
    readable: Sequence[Table | View],
    archives: Mapping[str, Archive],
    places: Mapping[int, str],
) -> dict[str, PipelineProgram]:
    """The programs of all worker groups by name; each reads one topic, and makes one kind of thing of it."""
    readers: dict[str, tuple[str, Topic | Archive]] = {}
    pipelines: dict[str, PipelineProgram] = {}

    def check_reader(name: str, reader: Topic | Archive, where: str) -> None:
        other_name, other = readers.setdefault(alike(name), (name, reader))
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
    alerts = [topic for topic in topics.values() if isinstance(topic, Alert) and topic.beside]
    return with_transitions(pipelines, alerts, places)


def _makers(
    topics: Mapping[str, Topic], archives: Mapping[str, Archive]
) -> list[Sequence[Derived] | Sequence[Archive]]:
    """What each worker group beside those of tables makes: derived topics (sources first) or lakes."""
    derives: dict[str, list[Derived]] = {}
    for derived in sorted(
        (topic for topic in topics.values() if isinstance(topic, Derived) and not topic.beside),
        key=lambda one: one.depth,
    ):
        derives.setdefault(derived.maker, []).append(derived)
    lakes: dict[str, list[Archive]] = {}
    for archive in archives.values():
        lakes.setdefault(archive.maker, []).append(archive)
    return [*derives.values(), *lakes.values()]


def emitted(
    programs: Sequence[TableProgram],
    topics: Mapping[str, Topic],
    readable: Mapping[str, Named],
    places: Mapping[int, str],
) -> dict[str, EmittedTopic]:
    """The topics of tables' rows by name: none is anything else already."""
    declared = {alike(topic.name): f"topic {topic.name} of {places[id(topic)]}" for topic in topics.values()}
    taken = dict(declared)
    emits = [(program, to) for program in programs if (to := program.emitted)]
    for one in [*topics.values(), *(to for _, to in emits)]:
        if one.dead_letters:
            taken.setdefault(alike(one.dead_letters), f"the dead-letter topic of {one.name}")
    views = {alike(item.name): item.name for item in readable.values()}
    found = {}
    for program, emits_to in emits:
        where, name = f"{places[id(program.table)]}: {program.name}.emit", emits_to.name
        letters = emits_to.dead_letters
        if letters and alike(letters) in declared:
            raise DeclarationError(
                f'{where}.dead_letters: "{letters}" is, or is too much like, {declared[alike(letters)]}; rename it'
            )
        if alike(name) in taken:
            raise DeclarationError(f'{where}.topic: "{name}" is, or is too much like, {taken[alike(name)]}; rename it')
        view = program.final.view if program.final else None
        if view and alike(view) in views:
            raise DeclarationError(
                f'{where}: its final rows are shown as the view "{view}", and {views[alike(view)]} is declared; rename'
                " that one"
            )
        taken[alike(name)] = f"the topic of table {program.name}"
        found[name] = emits_to
    return found
