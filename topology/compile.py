"""Declarations -> what a worker runs. What can be wrong with a declaration is found here, before anything runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from headrace.errors import DeclarationError
from schemas import AvroSchema
from topology import checks, counting, derived_column, distinct, final_counts, postgres, route, sessions, windowing
from topology.aggregate import Aggregate
from topology.archive import Archive
from topology.archive_compile import check as check_archive
from topology.archive_compile import compile_archive
from topology.changes import Changes
from topology.changes_compile import check as check_changes
from topology.changes_compile import compile_changes
from topology.changes_compile import meaning as emit_meaning
from topology.dedup_compile import check as check_dedup
from topology.dedup_compile import compile_dedup, id_checks, meaning, null_reasons
from topology.derived import Derived
from topology.derived_compile import check as check_derived
from topology.derived_compile import compile_derived, source_rules
from topology.duck import quoted, version
from topology.expression import Expression, Measure, measure
from topology.final import Final
from topology.final_compile import check as check_final
from topology.final_compile import compile_final
from topology.final_sql import Stored
from topology.keeping import keep
from topology.latest import Latest
from topology.latest_compile import check as check_latest
from topology.latest_compile import compile_latest
from topology.lookup import Lookup
from topology.lookup_compile import Looked, compile_lookups, numbered
from topology.program import Column, Declared, LookupProgram, Part, PipelineProgram, TableProgram, ViewProgram
from topology.spread import SPREADS
from topology.state import Kept, State
from topology.topic import Topic
from topology.types import Types, condition, refuse_unstable
from topology.view import View
from topology.view_compile import compile_view
from topology.window import Count, Hopping, Session, TimeWindow, Tumbling, Window

_LAYOUT = 1  # of state tables; part of every table's version


def compile_pipeline(
    name: str,
    topic: Topic,
    tables: Sequence[Declared | View],
    *,
    place: str,
    places: Mapping[str, str] | None = None,
    others: Mapping[str, TableProgram] | None = None,
) -> PipelineProgram:
    """The program of the tables fed by one topic and of their views, or of the topics derived from it, or its archives.

    place: file named in errors; places: files of the tables (by name) that are declared elsewhere; others: compiled
    tables of other pipelines by name, to look up in. Raises `DeclarationError`, one line that names file, declaration,
    column and remedy.
    """
    schema = checks.schema_of(topic, place)
    checks.check_topic(topic, schema, place)
    compiler = _Compiler(topic, schema, place, others or {})
    for table in tables:
        where = (places or {}).get(table.name, place)
        if isinstance(table, Derived):
            compiler.derive(table, where)
        elif isinstance(table, Latest):
            compiler.keep_newest(table, where)
        elif isinstance(table, Archive):
            compiler.archive(table, where)
        elif isinstance(table, View):
            compiler.view(table, where)
        else:
            compiler.add(table, where)
    return compiler.program(name)


def compile_alone(table: Aggregate | Latest, *, place: str, places: Mapping[str, str] | None = None) -> TableProgram:
    """The program of one table without the others of its topic, after those that it looks up in; see above."""
    lookups = table.lookups if isinstance(table.lookups, Sequence) else ()
    found = [one.table for one in lookups if isinstance(one, Lookup) and isinstance(one.table, Latest)]
    others = {one.name: compile_alone(one, place=place, places=places) for one in found}
    source = table.source
    pipeline = compile_pipeline(source.pipeline_name, source, [table], place=place, places=places, others=others)
    return pipeline.tables[0]


class _Compiler:
    """Collects the tables of one topic; each distinct row expression is evaluated once."""

    def __init__(self, topic: Topic, schema: AvroSchema, place: str, others: Mapping[str, TableProgram]) -> None:
        self._topic = topic
        self._schema = self._record = schema  # what a text sees, and what the topic has of it
        self._others = others
        self._found: dict[LookupProgram, str] = {}
        self._looked: dict[str, tuple[str, ...]] = {}  # where each name that is looked up comes from
        self._types = Types(schema)
        self._tried: list[route.Tried] = []
        self._routes: list[route.TableRoute] = []
        self._tables: list[TableProgram] = []
        self._views: list[ViewProgram] = []
        self._max_ahead = checks.duration(topic.max_ahead, place)
        self._not_before = None if topic.not_before is None else checks.day_micros(topic.not_before, place)
        self._require = [
            (name, self._condition(text, f"{place}: {topic.name}.require.{name}"))
            for name, text in topic.require.items()
        ]

    def program(self, name: str) -> PipelineProgram:
        prefixes = [table.prefix for table in self._tables]
        finals = {table.prefix: table.final_sql for table in self._tables}
        of = route.TopicRoute(self._topic, self._schema, tuple(self._require), self._max_ahead, self._not_before)
        key_texts: dict[str, int] = {}
        for check in (check for table in self._routes for check in table.texts):
            if check.key:
                key_texts[check.key] = min(check.limit, key_texts.get(check.key, check.limit))
        return PipelineProgram(
            name=name,
            topic=self._topic,
            schema_path=self._topic.shape_name,
            schema=self._schema,
            tables=tuple(self._tables),
            route_sql=route.route_sql(of, self._tried, self._routes),
            fitting_route_sql=route.route_sql(of, self._tried, self._routes, keys_fit=True),
            key_texts=key_texts,
            counts_sql=route.counts_sql(finals),
            reasons_sql=route.reasons_sql(prefixes),
            views=tuple(self._views),
        )

    def derive(self, derived: Derived, place: str) -> None:
        """Check and compile one derived topic."""
        check_derived(derived, place)
        rules = source_rules(self._topic, self._require, self._max_ahead, self._not_before)
        found, program = compile_derived(derived, self._schema, f"t{len(self._tables)}_", self, rules, place)
        self._routes.append(found)
        self._tables.append(program)

    def keep_newest(self, latest: Latest, place: str) -> None:
        """Check and compile one table of newest rows."""
        looked = self._look_up(latest, place)
        rules = source_rules(self._topic, self._require, self._max_ahead, self._not_before)
        with self._beside(looked, f"{place}: {latest.name}.lookups"):
            check_latest(latest, self._topic, self._schema, place)
            prefix = f"t{len(self._tables)}_"
            found, program = compile_latest(latest, self._schema, prefix, self, rules, place, looked)
        self._routes.append(found)
        self._tables.append(program)

    def archive(self, archive: Archive, place: str) -> None:
        """Check and compile one archive."""
        check_archive(archive, place)
        rules = source_rules(self._topic, self._require, self._max_ahead, self._not_before)
        found, program = compile_archive(archive, self._schema, f"t{len(self._tables)}_", rules)
        self._routes.append(found)
        self._tables.append(program)

    def view(self, view: View, place: str) -> None:
        """Check and compile one view of a table that was added before."""
        (program,) = (program for program in self._tables if program.table is view.table)
        self._views.append(compile_view(view, program, place))

    def attempt(self, expression: Expression, place: str) -> route.Tried:
        """The expression among those evaluated for every record."""
        return self._tried[self._try(expression, place)]

    def condition(self, sql: str, place: str) -> Expression:
        """`sql` as a condition over one record."""
        return self._condition(sql, place)

    def add(self, table: Aggregate, place: str) -> None:
        """Check and compile one table."""
        looked = self._look_up(table, place)
        with self._beside(looked, f"{place}: {table.name}.lookups"):
            self._add(table, looked, place)

    def _look_up(self, table: Aggregate | Latest, place: str) -> list[Looked]:
        return numbered(compile_lookups(table, self._topic, self._record, self._others, place), self._found)

    @contextmanager
    def _beside(self, looked: Sequence[Looked], place: str) -> Iterator[None]:
        """The texts of one table see what it looks up as well; a name means the same in all tables of the topic."""
        if not looked:
            yield
            return
        for one in looked:
            for name, origin in one.lookup.named.items():
                of = (one.program.version_id, one.program.on, origin)
                if self._looked.setdefault(name.lower(), of) != of:
                    raise DeclarationError(
                        f'{place}: another table of {self._topic.name} looks up another column as "{name}"; rename one'
                    )
        schema, types = self._schema, self._types
        self._schema = replace(schema, fields=(*schema.fields, *(field for one in looked for field in one.fields)))
        self._types = Types(self._schema)
        try:
            yield
        finally:
            self._schema, self._types = schema, types

    def _add(self, table: Aggregate, looked: Sequence[Looked], place: str) -> None:
        checks.check_table(table, self._topic, self._schema, place)
        check_dedup(table, self._topic, self._record, place)
        if isinstance(table.emit, Changes):
            check_changes(table, self._topic, place)
        else:
            check_final(table, place)
        prefix = f"t{len(self._tables)}_"
        where = None
        if table.where is not None:
            where = self._try(self._condition(table.where, f"{place}: {table.name}.where"))
        key = tuple(self._key(name) for name in table.by)
        measures = self._measures(table, place)
        kept, aggregates = self._states(table, measures, place)
        states = tuple(state.column for state in aggregates.values())
        filled = [(state.column.name, state.aggregate) for state in aggregates.values()]
        window = table.window if isinstance(table.window, TimeWindow) else None
        windowed = window is not None
        if window and windowing.ends_are_stored(window):
            states += (windowing.END,)
            filled.append((windowing.END.name, windowing.filled_end(window, prefix)))
        if isinstance(table.window, Count) and isinstance(table.emit, Final):
            states += (final_counts.END[0],)
            filled.append((windowing.END.name, final_counts.END[1]))
        lateness = checks.duration(table.allowed_lateness, place)
        trees = derived_column.parse(table, _view_columns(key, table.window, kept), f"{place}: {table.name}.derived")
        definition = self._definition(table, measures, where, lateness) | derived_column.meaning(trees)
        if looked:
            definition["lookups"] = [one.meaning for one in looked]
        text = json.dumps(definition, sort_keys=True, separators=(",", ":"))
        made = hashlib.sha256(text.encode()).hexdigest()[:12]
        state_table = f"state.{quoted(f'{table.name}__{made}')}"
        stage = f"stage_{made}"
        pairs = [(state, aggregate) for state, (_, aggregate) in zip(states, filled, strict=True)]
        if isinstance(table.window, Count):
            part = counting.part(
                state_table, stage, key, pairs, table.window, prefix, emits=isinstance(table.emit, Final)
            )
        elif isinstance(window, Session):
            used = sorted({tried.index for _, tried in measures.values() if tried})
            part = sessions.part(state_table, stage, key, pairs, window, prefix, used)
        else:
            columns = postgres.staged(key, states, windowed)
            part = Part(
                state_table=state_table,
                state_ddl=postgres.state_ddl(state_table, key, states, windowed),
                rows_sql=route.aggregate_sql(table.by, prefix, windowed, filled),
                stage_ddl=postgres.stage_ddl(stage, columns),
                copy_sql=postgres.copy_sql(stage, columns),
                merge_sql=(postgres.merge_sql(state_table, stage, key, states, windowed),),
            )
        counted = {
            name: tried for name, (one, tried) in measures.items() if tried and one.function == distinct.FUNCTION
        }
        sides = distinct.parts(table.name, made, key, window, prefix, counted)
        kept = distinct.finished(kept, sides, f"{table.name}@{made}", key, window)
        routed = self._route(table, prefix, key, measures, kept, where)
        self._routes.append(replace(routed, lookups=tuple(reason for one in looked for reason in one.reasons)))
        derived = derived_column.compute(trees, key, table.window, kept, f"{place}: {table.name}.derived")
        kept += [one.kept for one in derived]
        shown = _view_columns(key, table.window, kept)
        stored = Stored(table, made, state_table, stage, prefix, key, shown, kept)
        self._tables.append(
            TableProgram(
                table=table,
                prefix=prefix,
                version=made,
                parts=(part, *dict.fromkeys(sides.values())),
                key=key,
                states=states,
                columns=shown,
                window_micros=window.micros if window else None,
                lateness_micros=lateness,
                final_sql=f"{windowing.end(window, prefix)} + {lateness}" if window else None,
                view_ddl=postgres.view_ddl(table.name, f"{table.name}@{made}", state_table, key, table.window, kept),
                lineage=derived_column.lineage(derived, _lineage(table, self._topic, measures)),
                definition=definition,
                drops_late=table.late == "drop",
                ids=compile_dedup(table.dedup, self._record, table.name, made, prefix) if table.dedup else None,
                final=compile_final(stored, place) if isinstance(table.emit, Final) else None,
                changes=compile_changes(stored, place) if isinstance(table.emit, Changes) else None,
                lookups=tuple(one.program for one in looked),
            )
        )

    def _measures(self, table: Aggregate, place: str) -> dict[str, tuple[Measure, route.Tried | None]]:
        found = {}
        for name, text in table.measures.items():
            where = f"{place}: {table.name}.measures.{name}"
            parsed = measure(text, self._schema, self._topic.shape_name, where)
            tried = None
            if parsed.function == distinct.FUNCTION:
                distinct.check_window(table.window, where)
            if parsed.over is not None:
                refuse_unstable(parsed.over, where)
                tried = self._tried[self._try(parsed.over, where)]
            found[name] = parsed, tried
        return found

    def _states(
        self, table: Aggregate, measures: Mapping[str, tuple[Measure, route.Tried | None]], place: str
    ) -> tuple[list[Kept], dict[tuple[str, str], State]]:
        """Each measure as kept, and the state columns of all; measures that need the same one share it."""
        shared: dict[tuple[str, str], State] = {}
        kept: dict[str, Kept] = {}
        # In this order each takes what those before it keep.
        for name in sorted(measures, key=lambda one: measures[one][0].function in {"avg", *SPREADS}):
            parsed, tried = measures[name]
            where = f"{place}: {table.name}.measures.{name}"
            found = keep(name, parsed, tried.duck_type if tried else "", approx=table.approx, place=where)
            for role, state in found.states.items():
                always = role == "count" and (tried is None or self._never_null(tried))
                over = "*" if always else f"x{tried.index}" if tried else ""
                aggregate = "count(*)" if always else state.aggregate.format(x=f"r.{over}")
                found.states[role] = shared.setdefault((role, over), State(state.column, aggregate))
            kept[name] = found
        return [kept[name] for name in measures], shared

    def _never_null(self, tried: route.Tried) -> bool:
        """Whether every applied record has a value: what is not null cannot become null without being a failure."""
        return not tried.not_null and not tried.expression.asks_for_null

    def _route(
        self,
        table: Aggregate,
        prefix: str,
        key: Sequence[Column],
        measures: Mapping[str, tuple[Measure, route.Tried | None]],
        kept: Sequence[Kept],
        where: int | None,
    ) -> route.TableRoute:
        panes = table.window if isinstance(table.window, Tumbling | Hopping) else None
        free = [column.name for column in key if self._schema.by_name[column.name].kind == "string"]
        texts = route.key_checks(free) + (id_checks(table.dedup, self._record) if table.dedup else [])
        used = [(name, tried) for name, (_, tried) in measures.items() if tried is not None]
        for (name, (_, tried)), one in zip(measures.items(), kept, strict=True):
            held = tried.duck_type if tried and not one.states else one.view.duck_type
            if tried is not None and held == "VARCHAR":
                texts.append(route.TextCheck(tried.value, f"nul_in_value:{name}"))
        return route.TableRoute(
            prefix=prefix,
            null_keys=tuple(column.name for column in key if self._schema.by_name[column.name].nullable),
            texts=tuple(texts),
            measures=tuple((name, tried.index) for name, tried in used),
            where=where,
            window_micros=panes.pane_micros if panes else None,
            reasons=null_reasons(table.dedup, self._record) if table.dedup else (),
            zone=panes.zone if panes else None,
        )

    def _key(self, name: str) -> Column:
        duck_type = self._types.columns[name]
        return Column(name, duck_type, checks.key_type(duck_type))

    def _condition(self, text: str, place: str) -> Expression:
        return condition(text, self._schema, self._topic.shape_name, self._types, place)

    def _try(self, expression: Expression, place: str = "") -> int:
        """Index of the expression among those evaluated for every record."""
        for tried in self._tried:
            if tried.expression.canonical == expression.canonical:
                return tried.index
        duck_type = self._types.of(expression, place)
        fields = [self._schema.by_name[name] for name in expression.columns]
        self._tried.append(
            route.Tried(
                index=len(self._tried),
                expression=expression,
                duck_type=duck_type,
                not_null=tuple(f"{quoted(field.name)} IS NOT NULL" for field in fields if field.nullable),
                finite=duck_type in {"FLOAT", "DOUBLE"} and not set(expression.columns) & set(self._topic.not_finite),
            )
        )
        return len(self._tried) - 1

    def _definition(
        self,
        table: Aggregate,
        measures: Mapping[str, tuple[Measure, route.Tried | None]],
        where: int | None,
        lateness: int,
    ) -> dict[str, Any]:
        """The meaning of a table: what gives other rows when it changes, and nothing else."""
        topic, when = self._topic, self._topic.event_time
        expressions = [tried.expression for _, tried in measures.values() if tried] + [one for _, one in self._require]
        expressions += [self._tried[where].expression] if where is not None else []
        finite = [
            f.name for f in self._record.fields if f.kind in {"float", "double"} and f.name not in topic.not_finite
        ]
        used = {name for one in expressions for name in one.columns} | {*table.by, when.column, *finite}
        used |= {lookup.on for lookup in table.lookups}
        return {
            "layout": _LAYOUT,
            "duckdb": version(),
            "table": table.name,
            "topic": topic.name,
            "by": list(table.by),
            "where": self._tried[where].expression.canonical if where is not None else None,
            "measures": [
                [name, parsed.function, tried.expression.canonical if tried else "*", tried.duck_type if tried else ""]
                for name, (parsed, tried) in measures.items()
            ],
            "window": windowing.meaning(table.window),
            "allowed_lateness": lateness,
            "late": table.late,
            "approx": table.approx,
            "event_time": [when.column, when.format, when.zone],
            "require": [[name, one.canonical] for name, one in self._require],
            "max_ahead": self._max_ahead,
            "not_before": self._not_before,
            "finite": finite,
            "fields": {
                f.name: [f.kind, str(self._types.columns[f.name]), f.nullable, list(f.symbols)]
                for f in self._schema.fields
                if f.name in used
            },
            **({"dedup": meaning(table.dedup, self._record)} if table.dedup else {}),
            **emit_meaning(table.emit),
        }


def _view_columns(key: Sequence[Column], window: Window | None, kept: Sequence[Kept]) -> tuple[Column, ...]:
    return (*key, *(column for column, _ in postgres.window_columns(window)), *(one.view for one in kept))


def _lineage(
    table: Aggregate, topic: Topic, measures: Mapping[str, tuple[Measure, route.Tried | None]]
) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {name: (name,) for name in table.by}
    when = () if isinstance(table.window, Count) else (topic.event_time.column,)
    found |= {column.name: when for column, _ in postgres.window_columns(table.window)}
    return found | {name: tried.expression.columns if tried else () for name, (_, tried) in measures.items()}
