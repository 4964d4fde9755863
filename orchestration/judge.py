"""The cheap checks: pure functions of one snapshot of the ledger and the time. Ticks and runs use the same ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from dagster import AssetKey

from ledger.closings import Finals, shown
from ledger.fleet import Fleet
from ledger.observed import Observed, Place, Worker
from orchestration import keys
from orchestration.verdict import Verdict
from topology.duration import micros
from topology.program import PipelineProgram, TableProgram

SILENT = timedelta(seconds=15)  # between two heartbeats; a worker beats every second
STARTING = timedelta(seconds=30)  # that a worker may take to be there after the switch, a kill or a lost lease
STALLED = timedelta(seconds=60)  # without a commit, with records waiting
CRASHES = 3  # in a row; the supervisor forgets them once a worker has lived for a minute
FLEET_SILENT = timedelta(seconds=60)  # between two ticks of the fleet sensor, which wants one every 5 s
_UNPUBLISHED = 10_000  # records of the outbox; a publisher sends thousands a second
_QUIET, _BUSY = 0.5, 3.0  # today's records as a share of a usual day's


def table(program: TableProgram, seen: Observed, now: datetime) -> list[Verdict]:
    """Verdicts on one table; `volume` only where the snapshot has volumes."""
    places = seen.table(program.name)
    found = [accounting(program, places), lag(program, places, now), freshness(program, places, now)]
    if program.final:
        found.append(final(program, places, seen.finals.get(program.name)))
    if seen.volumes is not None:
        found.append(volume(program, places, seen.volumes))
    return found


def pipeline(program: PipelineProgram, seen: Observed, now: datetime) -> list[Verdict]:
    """Verdicts on a pipeline's workers: shown at the topic that they read, or at the topics or lakes that they make."""
    found = workers(program, seen, now)
    if program.apart:
        return [replace(found, asset=keys.program_key(table), check=keys.MAKERS) for table in program.tables]
    return [found, fleet(program, seen.fleet, now)]


def accounting(program: TableProgram, places: Sequence[Place]) -> Verdict:
    """Whether both identities hold in every partition."""
    broken = [f"{p.topic}[{p.partition}]" for p in places if not p.holds]
    consumed = sum(p.consumed for p in places)
    numbers: dict[str, int | float | str] = {"partitions": len(places)}
    for name in (
        "consumed",
        "applied",
        "late",
        "duplicate",
        "dead_lettered",
        "filtered",
        "control",
        "gaps",
        "replayed",
    ):
        numbers[name] = sum(int(getattr(p, name)) for p in places)
    says = f"{consumed:,} records in {len(places)} partitions: one fate each, no offset left out"
    if not places:
        says = "nothing was consumed yet: no worker has opened this table"
    elif broken:
        says = f"the identities do not hold in {', '.join(broken)}; rows were written by hand, or Postgres was restored"
    return Verdict(_table(program), "accounting", bool(places) and not broken, says, numbers, blocking=True)


def lag(program: TableProgram, places: Sequence[Place], now: datetime) -> Verdict:
    """Whether the oldest unread record is younger than `max_lag`."""
    bound = timedelta(microseconds=micros(program.table.max_lag))
    unknown = [p.partition for p in places if p.behind is None]
    behind = sum(p.behind or 0 for p in places)
    seconds = _waiting(places, now)
    numbers: dict[str, int | float | str] = {"lag records": behind, "lag seconds": seconds}
    if unknown or not places:
        return _said(program, "lag", False, _no_end(program, unknown), numbers)
    unseen = _unseen(places, now)
    if unseen:
        return _said(program, "lag", False, unseen, numbers)
    says = "level with its topic" if not behind else f"{behind:,} records behind, the oldest for {seconds:.0f} s"
    return _said(program, "lag", seconds <= bound.total_seconds(), f"{says} (at most {program.table.max_lag})", numbers)


def freshness(program: TableProgram, places: Sequence[Place], now: datetime) -> Verdict:
    """Whether everything is in that reached the topic until `fresh_within` ago (engine rule D5)."""
    bound = micros(program.table.fresh_within) / 1e6
    moments = [_true_as_of(place) for place in places]
    known = [moment for moment in moments if moment is not None]
    if not known or len(known) < len(moments):
        return _said(program, "freshness", False, "no worker has reached the end of every partition yet", {})
    age = max(0.0, (now - min(known)).total_seconds())
    says = f"true as of {age:.0f} s ago (at most {program.table.fresh_within})"
    return Verdict(_table(program), "freshness", age <= bound, says, {"age seconds": round(age, 1)})


def final(program: TableProgram, places: Sequence[Place], found: Finals | None) -> Verdict:
    """Whether rows become final and reach their topic: no partition holds them back, no error, no growing outbox."""
    if found is None:
        return _said(program, "final", False, "no worker has closed a row of this table yet; `headrace status`", {})
    numbers: dict[str, int | float | str] = {"emitted": found.outbox_seq, "unpublished": found.unpublished}
    if found.error:
        return _said(program, "final", False, f"final rows stand still: {found.error}", numbers)
    if found.unpublished > _UNPUBLISHED:
        says = f"{found.unpublished:,} records wait for Kafka; is it up? `headrace doctor`"
        return _said(program, "final", False, says, numbers)
    if found.by_offset:
        return _said(program, "final", True, f"{found.outbox_seq:,} records emitted, each when it was full", numbers)
    patience = (program.window_micros or 0) + program.lateness_micros
    level = any(p.partition == found.slowest and p.behind == 0 for p in places)
    apart = (found.furthest or 0) - (found.watermark or 0) if level and not found.ended else 0
    if found.silent or apart > patience:
        return _said(program, "final", False, f"{found.waits_for}; send a marker there", numbers)
    says = f"{found.outbox_seq:,} records emitted, rows are final up to {shown(found.closed_through)}"
    return _said(program, "final", True, says, numbers)


def volume(program: TableProgram, places: Sequence[Place], volumes: Mapping[str, Mapping[int, int]]) -> Verdict:
    """Whether the last 24 hours brought about as many records as the days before."""
    ages = volumes.get(places[0].table_version, {}) if places else {}
    now, before = ages.get(0, 0), [ages[age] for age in range(1, 8) if age in ages]
    numbers: dict[str, int | float | str] = {"records in 24 hours": now}
    if len(before) < 3:
        says = f"{now:,} records in 24 hours; {len(before)} of the 7 days before had any, too few to compare with"
        return _said(program, "volume", True, says, numbers)
    usual = sum(before) / len(before)
    numbers["usual"] = round(usual)
    says = f"{now:,} records in 24 hours, usual are {usual:,.0f} (from {_QUIET:.0%} to {_BUSY:.0%} passes)"
    return _said(program, "volume", _QUIET * usual <= now <= _BUSY * usual, says, numbers)


def workers(program: PipelineProgram, seen: Observed, now: datetime) -> Verdict:
    """Whether what the switch says is so, nothing stands still and nothing crashes again and again."""
    alive = [w for w in seen.workers if w.pipeline == program.name and now - w.heartbeat_at <= SILENT]
    numbers: dict[str, int | float | str] = {
        "workers": len(alive),
        "records per second": round(sum(w.records_per_s for w in alive), 1),
        "switch": switch(program.name, seen, now),
    }
    trouble = _trouble(program, seen, alive, now)
    says = trouble or f"{switch(program.name, seen, now)}; {len(alive)} running"
    return Verdict(keys.topic_key(program.topic.name), "workers", trouble is None, says, numbers)


def fleet(program: PipelineProgram, owner: Fleet | None, now: datetime, instance: str | None = None) -> Verdict:
    """Whether the fleet sensor ticks: without it a toggle moves nothing and no table reports.

    instance: the Dagster instance that asks; its own sensor has to be the one that ticks.
    """
    key = keys.topic_key(program.topic.name)
    if owner is None:
        return Verdict(key, "fleet", False, "the fleet sensor has never ticked; switch it on in Dagster: Automation")
    if instance is not None and owner.instance != instance:
        says = (
            f"the switches belong to the Dagster instance {owner.instance[:8]}; to move them: `headrace fleet release`"
        )
        return Verdict(key, "fleet", False, says)
    age = max(0.0, (now - owner.ticked_at).total_seconds())
    passed = age <= FLEET_SILENT.total_seconds()
    says = f"last tick {age:.0f} s ago"
    if not passed:
        says = (
            f"no tick for {age:.0f} s: toggles and reports wait, workers go on; look at the sensor `fleet`, the daemon"
        )
    return Verdict(key, "fleet", passed, says, {"tick age seconds": round(age, 1)})


def _trouble(program: PipelineProgram, seen: Observed, alive: Sequence[Worker], now: datetime) -> str | None:
    """What is wrong with a pipeline's workers, None for nothing."""
    found = seen.switches.get(program.name)
    places = seen.pipeline(program.name)
    if found is None:
        return "no supervisor has seen this pipeline yet; run `headrace supervisor run`"
    if not found.on(now):
        late = now - _switched(program, seen, now) > STARTING and [w for w in alive if w.state != "draining"]
        return f"switched off and {len(late)} still running; is the supervisor up? `headrace status`" if late else None
    if found.failures >= CRASHES:
        return f"crash loop: {found.failures} failures in a row; {found.last_error or 'see the log'}"
    stopped = [p for p in places if p.error]
    if stopped:
        return f"{stopped[0].topic}[{stopped[0].partition}] stands still: {stopped[0].error}"
    if not alive:
        gone = max(
            [_switched(program, seen, now), *(w.heartbeat_at for w in seen.workers if w.pipeline == program.name)]
        )
        if now - gone > STARTING:
            return (
                f"switched on and no worker runs for {(now - gone).total_seconds():.0f} s; `headrace status` says why"
            )
        return None
    began = min(w.started_at for w in alive)
    patience = STALLED + timedelta(microseconds=program.holds_micros)
    stalled = [p for p in places if p.behind and now - max(began, *_moved(p)) > patience]
    if stalled:
        p = stalled[0]
        since = (now - max(began, *_moved(p))).total_seconds()
        where = f"{p.topic}[{p.partition}]@{p.next_offset}"
        return f"{p.table} stalls at {where}: {p.behind:,} records wait, no commit for {since:.0f} s"
    return None


def switch(pipeline: str, seen: Observed, now: datetime) -> str:
    """The state of a pipeline's switch, in words."""
    found = seen.switches.get(pipeline)
    if found is None:
        return "unknown"
    if found.overridden(now):
        return f"{found.override} by an override until {found.override_until:%Y-%m-%d %H:%M:%SZ}"
    return f"{found.desired} by its toggle"


def _switched(program: PipelineProgram, seen: Observed, now: datetime) -> datetime:
    found = seen.switches[program.name]
    ended = found.override_until
    return max(found.changed_at, ended) if ended is not None and ended <= now else found.changed_at


def _moved(place: Place) -> list[datetime]:
    return [moment for moment in (place.committed_at, place.claimed_at, place.level_at) if moment is not None]


def _waiting(places: Sequence[Place], now: datetime) -> float:
    """Seconds for which the oldest unread record waits."""
    waits = [(now - p.next_timestamp).total_seconds() for p in places if p.behind and p.next_timestamp is not None]
    return round(max([0.0, *waits]), 1)


def _true_as_of(place: Place) -> datetime | None:
    """Everything that reached the partition before this moment is in the table; None when that is not known."""
    if place.behind is None:
        return place.level_at
    latest = place.seen_at if place.behind == 0 else place.next_timestamp
    moments = [moment for moment in (place.level_at, latest) if moment is not None]
    return max(moments, default=None)


def _unseen(places: Sequence[Place], now: datetime) -> str | None:
    """Why the lag is not known any more: nobody looks at the end of the log."""
    oldest = min(p.seen_at for p in places if p.seen_at is not None)
    if now - oldest <= STALLED:
        return None
    return f"the end of the log was seen {(now - oldest).total_seconds():.0f} s ago; is Kafka up? `headrace doctor`"


def _no_end(program: TableProgram, unknown: Sequence[int]) -> str:
    if not unknown:
        return "nothing was consumed yet: no worker has opened this table"
    return f"nobody has seen the end of {program.table.source.name}{list(unknown)} yet; `headrace status`"


def _said(
    program: TableProgram, check: str, passed: bool, says: str, numbers: Mapping[str, int | float | str]
) -> Verdict:
    return Verdict(_table(program), check, passed, says, numbers, severe=False)


def _table(program: TableProgram) -> AssetKey:
    return keys.program_key(program)
