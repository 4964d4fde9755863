"""What a worker runs: the compiled form of the declarations of one pipeline, as data.

In DuckDB, per batch of one shard, on one connection (`topology.duck.connect`):

1. register the Arrow columns of the decoded records as `frame`: the reader's columns, then `_i` BIGINT (index of the
   record in the batch), `_ts` BIGINT (Kafka timestamp, milliseconds) and `_offset` BIGINT, then what is looked up for
   each record (see `topology.lookup_sql`);
2. `route_sql` makes `routed`, one row per row of `frame` in the same order, with each record's fate;
3. `counts_sql` counts the fates, `reasons_sql` names the dead letters when there are any;
4. for tables with `nulls_sql`, register the records without value as `nulls` (see `topology.latest_compile`);
5. `rows_sql` of each part of each table reads `frame` and `routed` side by side: leave `frame` as it is until then.

In Postgres, per transaction and part: `stage_ddl`, `copy_sql` (the part's rows as CSV), the statements of `merge_sql`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from schemas.avro import AvroSchema
from topology import texts
from topology.aggregate import Aggregate
from topology.alert import Alert
from topology.archive import Archive
from topology.changes import ChangesTopic
from topology.derived import Derived
from topology.duration import micros
from topology.emitted import EmittedTopic
from topology.final import FinalTopic
from topology.join import Join
from topology.latest import Latest
from topology.topic import Topic
from topology.view import View

if TYPE_CHECKING:
    import pyarrow as pa

Declared = Aggregate | Latest | Derived | Archive
Merge = Literal["add", "least", "greatest", "first", "last"]


@dataclass(frozen=True)
class Column:
    """A column with its type in DuckDB and in Postgres."""

    name: str
    duck_type: str
    pg_type: str


@dataclass(frozen=True)
class StateColumn(Column):
    """A column of partial aggregates and the way two of its values become one; null is "no value yet".

    order: for first and last the names of the state columns with event time and offset, which say whose value stays.
    """

    merge: Merge
    order: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """One state table of a table and the rows that go into it: `rows_sql` in DuckDB, all else in Postgres.

    merge_sql: statements, run in order, with the parameters `shard` and `version_id`; the rows that they return are UTC
    days (since 1970) of windows they changed, where the rows alone do not say which. A table's further parts are named
    `<first part>__<suffix>`, so that what was made together is dropped together.
    """

    state_table: str
    state_ddl: str
    rows_sql: str
    stage_ddl: str
    copy_sql: str
    merge_sql: tuple[str, ...]


@dataclass(frozen=True)
class Ids:
    """How a table knows the records that it has had, by ids that it remembers for a time.

    columns: of an id. rows_sql: in DuckDB, the ids of the applied records in their order; all else in Postgres, within
    a transaction: ids with a number `n` are staged by `stage_ddl` and `copy_sql`. seen_sql gives the numbers of those
    that shard `shard` remembers and until which watermark, in microseconds; register_sql remembers them until the
    watermark `n`; forget_sql removes what a `watermark` has reached.
    """

    horizon_micros: int
    columns: tuple[Column, ...]
    rows_sql: str
    state_ddl: str
    stage_ddl: str
    copy_sql: str
    seen_sql: str
    register_sql: str
    forget_sql: str


@dataclass(frozen=True)
class FinalProgram:
    """How the final rows of a table are found and emitted to `topic`; see `topology.final_compile`.

    late_rows_sql: in DuckDB, the panes of the records whose indices are registered as `late_taken`; late_copy_sql takes
    them. In Postgres, in one transaction of the closer: stage_ddl, then with the parameters `after` and `until`
    (moments as text): changed_sql stages rows that were final by `after` and changed, closed_sql those whose windows
    end in (after, until], ended_sql those whose windows end after `after` and begin by `until`; keep_sql remembers them
    as emitted, read_sql reads record key, columns and revision. full_sql: whether changed_sql may leave something for
    the next transaction. bound_sql: the end of a window up to which about as many rows as one transaction should have
    lie after `after`. view: of the rows that are final, with their revision.

    reopens_micros: for how long a record may change a row that is final already before it counts as late. gone_sql:
    after the others, with `after` being up to where rows are final now, stages rows that are final no more. by_offset:
    rows are final when they are full, and changed_sql alone finds them, without parameters. idles: partitions that are
    idle hold nothing back, so that any record may change a final row.
    """

    topic: FinalTopic
    ddl: tuple[str, ...]
    late_rows_sql: str
    late_copy_sql: str
    bound_sql: str
    stage_ddl: str
    full_sql: str
    changed_sql: str
    closed_sql: str
    ended_sql: str
    keep_sql: str
    read_sql: str
    view: str
    view_ddl: str
    reopens_micros: int = 0
    gone_sql: str = ""
    by_offset: bool = False
    idles: bool = False


@dataclass(frozen=True)
class ChangesProgram:
    """How rows that a transaction may have changed are sent to `topic`; see `topology.changes_compile`.

    rows_sql: in Postgres, after the merge and in its transaction, with the parameter `shard`.
    """

    topic: ChangesTopic
    rows_sql: str


@dataclass(frozen=True)
class NewestProgram:
    """What happens to the rows of a table of newest rows; see `topology.transition_compile`.

    versions_sql: in DuckDB, all applied records and deletions of a batch; before_sql: in Postgres, between staging and
    merging, the rows that shard `%(shard)s` has of the staged keys, with the same columns.
    """

    versions_sql: str
    before_sql: str


@dataclass(frozen=True)
class TransitionProgram:
    """Alerts on the transitions of a table's rows.

    alerts_sql: in DuckDB, over `versions` and `before`; the fields of the alert, then `_key`. `$prefix` comes before
    the offset in the id. lineage: the table's columns of each field.
    """

    alert: Alert
    alerts_sql: str
    lineage: Mapping[str, tuple[str, ...]] = field(compare=False)


@dataclass(frozen=True)
class Outlet:
    """What the batches of a pipeline's shards send to a topic, each shard through an outbox of its own.

    writer: whose records they are in the ledger: the pipeline's, the table version's or the alert's. name: of pipeline,
    table or alert. table: the version that sends, of rows and alerts; declared: their topic.
    """

    kind: Literal["letters", "changes", "alerts"]
    writer: str
    name: str
    topic: str
    table: str = ""
    declared: Topic | None = None


@dataclass(frozen=True)
class LookupProgram:
    """How columns of another table come beside the records of a frame; see `topology.lookup_sql`.

    on: the record's column with the key. columns: as they come into the frame; `found`: the name of one more, whether
    there was a version. asked_sql and keys_sql, then looked_sql, in DuckDB; versions_sql in Postgres.
    """

    table: str
    version_id: str
    topic: str
    pipeline: str
    on: str
    columns: tuple[Column, ...]
    origins: tuple[str, ...]
    found: str
    asked_sql: str
    keys_sql: str
    looked_sql: str
    versions_sql: str


@dataclass(frozen=True)
class TableProgram:
    """One table: its version, the parts that keep its state, and the view people read.

    version: 12 hex digits over the declaration's meaning. prefix: of its columns in `routed` (`t0_`, ...). parts: the
    first has the table's keys; its rows say which windows a batch touches; a derived topic has one, whose rows are its
    records. columns: of the view, in order. lineage:
    source columns of each column of the view. definition: what the version is made of. drops_late: whether a record
    with `final_sql` at or below its partition's watermark is late and not applied. nulls_sql: why a record without
    value deletes no row, in tables in which some do. ids: of tables that leave out records they have had.
    final, changes: how its final rows, or its changed ones, are emitted, where they are. lookups: the columns that come
    beside its records. newest, transitions: of tables of newest rows, and the alerts on what happens to these.
    """

    table: Declared
    prefix: str
    version: str
    parts: tuple[Part, ...]
    key: tuple[Column, ...]
    states: tuple[StateColumn, ...]
    columns: tuple[Column, ...]
    window_micros: int | None
    lateness_micros: int
    final_sql: str | None
    view_ddl: str
    lineage: Mapping[str, tuple[str, ...]] = field(compare=False)
    definition: Mapping[str, Any] = field(compare=False)
    drops_late: bool = False
    nulls_sql: str | None = None
    ids: Ids | None = None
    final: FinalProgram | None = None
    lookups: tuple[LookupProgram, ...] = ()
    changes: ChangesProgram | None = None
    newest: NewestProgram | None = None
    transitions: tuple[TransitionProgram, ...] = ()

    @property
    def name(self) -> str:
        """The table's name, which is also its view's in the schema public."""
        return self.table.name

    @property
    def version_id(self) -> str:
        """The name of the table version in the ledger."""
        return f"{self.table.name}@{self.version}"

    @property
    def state_table(self) -> str:
        """Qualified name of the first part's state table."""
        return self.parts[0].state_table

    @property
    def windowed(self) -> bool:
        """Whether the table has time windows (and with them days, partitions and generations)."""
        return self.window_micros is not None

    @property
    def derived(self) -> Derived | None:
        """The topic that this is, where it is no table."""
        return self.table if isinstance(self.table, Derived) else None

    @property
    def emitted(self) -> EmittedTopic | None:
        """The topic of its rows, where it emits some."""
        emits = self.final or self.changes
        return emits.topic if emits else None

    @property
    def archive(self) -> Archive | None:
        """The lake that this is, where it is no table."""
        return self.table if isinstance(self.table, Archive) else None


@dataclass(frozen=True)
class ViewProgram:
    """A follow-on view of a table: the statement that creates it, its columns, and the table's columns of each."""

    view: View
    table: str
    columns: tuple[Column, ...]
    ddl: str
    lineage: Mapping[str, tuple[str, ...]] = field(compare=False)

    @property
    def name(self) -> str:
        """The view's name in the schema public."""
        return self.view.name


@dataclass(frozen=True)
class JoinProgram:
    """A join: its tables, its columns, the statement that creates its view, and (table, column) behind each column."""

    join: Join
    tables: tuple[TableProgram, ...]
    columns: tuple[Column, ...]
    ddl: str
    lineage: Mapping[str, tuple[tuple[str, str], ...]] = field(compare=False)

    @property
    def name(self) -> str:
        """The view's name in the schema public."""
        return self.join.name


@dataclass(frozen=True)
class PipelineProgram:
    """The tables of one worker group, and the SQL that gives every record of their topic its fate.

    `routed` has the columns `_i`; `event_time` BIGINT, microseconds or null; `topic_reason` VARCHAR, null for a valid
    record; and per table, with its prefix: `reason` VARCHAR, why a valid record is invalid for this table; `where`
    BOOLEAN, its condition; `applied` BOOLEAN, never null; `window` BIGINT, start in microseconds (windowed tables).

    `counts_sql` gives one row: `records`, `topic_bad`, `max_valid_event` (of records with a null `topic_reason`) and
    per table, with its prefix: `dead` (`topic_bad` included), `filtered`, `applied` (these three add up to `records`),
    `min_event`, `max_event`, `min_final` (of applied records; the last is null without `final_sql`). `reasons_sql`
    gives `_i`, `topic_reason` and each table's `reason` for the records that have one, by `_i`. views: that follow from
    the tables; they have no part in any of this.

    `route_sql` is right for every frame. `route(frame)` is it or, when one look at the group columns (`key_texts`: most
    bytes of each) finds nothing to refuse, `fitting_route_sql`, which does not look at every row again.
    """

    name: str
    topic: Topic
    schema_path: str
    schema: AvroSchema
    tables: tuple[TableProgram, ...]
    route_sql: str
    fitting_route_sql: str
    key_texts: Mapping[str, int]
    counts_sql: str
    reasons_sql: str
    views: tuple[ViewProgram, ...] = ()
    joins: tuple[JoinProgram, ...] = ()

    @property
    def lookups(self) -> tuple[LookupProgram, ...]:
        """Those of all tables, each once."""
        return tuple(dict.fromkeys(lookup for table in self.tables for lookup in table.lookups))

    @property
    def derives(self) -> bool:
        """Whether its workers make topics of the topic and no tables."""
        return any(table.derived for table in self.tables)

    @property
    def archives(self) -> bool:
        """Whether its workers write lakes and no tables."""
        return any(table.archive for table in self.tables)

    @property
    def letters(self) -> str | None:
        """The topic to which dead letters of tables are sent; derived topics send theirs themselves, lakes none."""
        return None if self.derives or self.archives else self.topic.dead_letters

    @property
    def outlets(self) -> tuple[Outlet, ...]:
        """What batches send, each through an outbox of its own."""
        letters = self.letters
        found = [Outlet("letters", self.name, self.name, letters)] if letters else []
        for table in self.tables:
            if table.changes:
                to = table.changes.topic
                found.append(Outlet("changes", table.version_id, table.name, to.name, table.version_id, to))
            for alert in (one.alert for one in table.transitions):
                # No pipeline's name has a colon, and every table version an "@".
                writer = f"{self.name}:{alert.name}"
                found.append(Outlet("alerts", writer, alert.name, alert.name, table.version_id, alert))
        return tuple(found)

    @property
    def holds_micros(self) -> int:
        """For how long its workers may hold records back before they commit them, in microseconds."""
        return max((micros(table.archive.roll_after) for table in self.tables if table.archive), default=0)

    @property
    def apart(self) -> bool:
        """Whether it is a worker group of its own, beside the one whose tables the topic feeds."""
        return self.derives or self.archives

    def route(self, frame: pa.RecordBatch) -> str:
        """The cheapest SQL that makes `routed` from this frame."""
        return self.fitting_route_sql if texts.fit(frame, self.key_texts) else self.route_sql
