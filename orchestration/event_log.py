"""Old rows of Dagster's own storage, deleted so that no status in the UI changes. Imported by the run only.

Read for dagster 1.13.27 with dagster-postgres 0.29.27 (`dagster/_core/storage/event_log/schema.py`): Dagster prunes
ticks and nothing else, and has an API to delete a run, none to delete events that belong to no run. Runs are deleted
through the instance, other rows by SQL in the instance's own connection, in batches that each commit by themselves.

What statuses are made of stays, whatever its age: the newest materialization and observation per asset and partition,
and a newer planned one that never came; the newest freshness state per asset; the newest evaluation (and the newest
finished one) per check and partition; the runs that hold one of them, and each asset's latest run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from dagster import DagsterInstance, RunsFilter
from dagster._core.storage.dagster_run import FINISHED_STATUSES
from dagster_postgres import PostgresEventLogStorage

from headrace.errors import UsageError

_BATCH = 2_000  # rows in one statement: locks nothing for long, and 2 MB of events
_RUNS = 200
Say = Callable[[str], None]

# `newer`: an event of the same kind, asset and partition that came later; both branches have an index.
_NEWER = """
    (e.partition is null and exists (
        select from event_logs n where n.asset_key = e.asset_key and n.dagster_event_type = e.dagster_event_type
                                   and n.partition is null and n.id > e.id)
     or e.partition is not null and exists (
        select from event_logs n where n.asset_key = e.asset_key and n.dagster_event_type = e.dagster_event_type
                                   and n.partition = e.partition and n.id > e.id))"""

_EVENTS = f"""
with old as (
    select id from event_logs
     where run_id = '' and id > :after and "timestamp" < :before
       and dagster_event_type in ('ASSET_MATERIALIZATION', 'ASSET_OBSERVATION', 'FRESHNESS_STATE_CHANGE',
                                  'FRESHNESS_STATE_EVALUATION', 'ASSET_CHECK_EVALUATION')
     order by id limit :batch
), gone as (
    delete from event_logs e using old
     where e.id = old.id
       and (e.dagster_event_type = 'ASSET_CHECK_EVALUATION'
            and not exists (select from asset_check_executions c where c.evaluation_event_storage_id = e.id)
            or e.dagster_event_type <> 'ASSET_CHECK_EVALUATION' and {_NEWER})
    returning e.id, e.dagster_event_type
), tags as (
    delete from asset_event_tags t using gone where t.event_id = gone.id
)
select (select max(id) from old), (select jsonb_object_agg(kind, rows) from
       (select dagster_event_type as kind, count(*) as rows from gone group by 1) c)
"""

_NEWEST_EVALUATIONS = """
    select max(id) from asset_check_executions group by asset_key, check_name, partition
    union
    select max(id) from asset_check_executions where execution_status <> 'PLANNED'
     group by asset_key, check_name, partition"""

_EVALUATIONS = f"""
with old as (
    select id from asset_check_executions
     where coalesce(run_id, '') = '' and id > :after and evaluation_event_timestamp < :before order by id limit :batch
), gone as (
    delete from asset_check_executions c using old
     where c.id = old.id and c.id not in ({_NEWEST_EVALUATIONS})
    returning c.id
)
select (select max(id) from old), jsonb_build_object('evaluations', (select count(*) from gone))
"""

# A planned materialization that no later one has made true is why a partition is shown as failed.
_PROTECTED = f"""
select distinct e.run_id from event_logs e
 where e.run_id = any(:runs)
   and e.dagster_event_type in ('ASSET_MATERIALIZATION', 'ASSET_OBSERVATION', 'ASSET_MATERIALIZATION_PLANNED')
   and e.asset_key is not null and not {_NEWER}
   and not (e.dagster_event_type = 'ASSET_MATERIALIZATION_PLANNED' and exists (
        select from event_logs m where m.asset_key = e.asset_key and m.dagster_event_type = 'ASSET_MATERIALIZATION'
                                   and m.partition is not distinct from e.partition and m.id > e.id))
union
select run_id from asset_check_executions where run_id = any(:runs) and id in ({_NEWEST_EVALUATIONS})
union
select last_run_id from asset_keys where last_run_id = any(:runs)
"""


@dataclass
class Deleted:
    """What was deleted: events of no run by type, evaluations, runs; and old runs that statuses still need."""

    events: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    runs_kept: int = 0


def delete_old(instance: DagsterInstance, *, event_days: int, run_days: int, now: datetime, say: Say) -> Deleted:
    """Delete what is older than so many days; `UsageError` for an instance without Postgres storage."""
    storage = instance.event_log_storage
    if not isinstance(storage, PostgresEventLogStorage):
        raise UsageError(
            f"event-log retention needs Dagster's storage in Postgres and this is {type(storage).__name__}; nothing "
            "was deleted; run `headrace up`, which writes such a dagster.yaml"
        )
    deleted = Deleted()
    before = (now - timedelta(days=event_days)).replace(tzinfo=None)  # the columns hold UTC without a zone
    for what, statement in (("evaluations", _EVALUATIONS), ("events", _EVENTS)):  # events that an evaluation needs stay
        for counts in _batches(storage, statement, before):
            deleted.events.update(counts)
            say(f"{what} of no run before {before:%Y-%m-%d}: {sum(counts.values()):,} deleted")
    _delete_runs(instance, storage, now - timedelta(days=run_days), deleted, say)
    return deleted


def _batches(storage: PostgresEventLogStorage, statement: str, before: datetime) -> Iterator[dict[str, int]]:
    after = 0
    while True:
        given = {"after": after, "before": before, "batch": _BATCH}
        last, counts = _query(storage, statement, given)[0]
        if last is None:
            return
        after = last
        yield counts or {}


def _delete_runs(
    instance: DagsterInstance, storage: PostgresEventLogStorage, before: datetime, deleted: Deleted, say: Say
) -> None:
    runs = instance.get_run_ids(RunsFilter(statuses=FINISHED_STATUSES, updated_before=before))
    for start in range(0, len(runs), _RUNS):
        some = list(runs[start : start + _RUNS])
        kept = {row[0] for row in _query(storage, _PROTECTED, {"runs": some})}
        for run_id in some:
            if run_id not in kept:
                _delete_run(instance, storage, run_id)
        deleted.runs += len(some) - len(kept)
        deleted.runs_kept += len(kept)
        say(f"runs that ended before {before:%Y-%m-%d}: {deleted.runs:,} deleted, {deleted.runs_kept:,} kept")


def _delete_run(instance: DagsterInstance, storage: PostgresEventLogStorage, run_id: str) -> None:
    """Its evaluations, events, captured output, then the run: what is left after a crash in between is found again."""
    _query(storage, "delete from asset_check_executions where run_id = :run returning 1", {"run": run_id})
    storage.delete_events(run_id)
    instance.compute_log_manager.delete_logs(prefix=[run_id])
    instance.delete_run(run_id)


def _query(storage: PostgresEventLogStorage, statement: str, given: dict[str, Any]) -> Sequence[Any]:
    with storage.index_connection() as connection:
        return list(connection.execute(sa.text(statement), given).fetchall())
