"""Waiting until the workers are level: every table's position stands at the end of every partition."""

from __future__ import annotations

import time
from typing import Protocol

from cli.demo.stages import Stage
from headrace.clock import SYSTEM_CLOCK
from headrace.errors import HeadraceError, ServiceFailed
from headrace.settings import Settings
from ledger import reports
from orchestration.recount import ends
from topology import Topic

_PATIENCE = 60.0  # seconds without any progress
_POLL = 0.2


class Watched(Protocol):
    """What has to stay alive meanwhile."""

    def check_supervisor(self) -> None:
        """Raise `ServiceFailed` when the supervisor is gone."""
        ...


def wait(settings: Settings, topic: Topic, tables: list[str], services: Watched, stage: Stage) -> None:
    """Return when level; raises the shard's own error, or `ServiceFailed` when nothing moves any more."""
    goal = {number: high for number, (_low, high) in ends(settings.kafka(), topic.name).items()}
    engine = reports.engine(settings.need_postgres())
    total = sum(goal.values()) * len(tables)
    last, moved = -1, time.monotonic()
    while True:
        services.check_supervisor()
        places = {(e.table, e.partition): e.next_offset for e in reports.accounting(engine) if e.topic == topic.name}
        behind = [(t, p) for t in tables for p, end in goal.items() if places.get((t, p), -1) < end]
        done = sum(min(places.get((t, p), 0), end) for t in tables for p, end in goal.items())
        stage.advance(done, total, f"{len(tables)} tables, {len(goal)} partitions")
        if not behind:
            return
        errors = reports.shard_errors(engine)
        if errors:
            raise HeadraceError(f"{errors[0].pipeline} shard {errors[0].shard} stands still: {errors[0].error}")
        if done != last:
            last, moved = done, time.monotonic()
        elif time.monotonic() - moved > _PATIENCE:
            raise ServiceFailed(
                f"no progress for {_PATIENCE:.0f} s; behind: {', '.join(f'{t}[{p}]' for t, p in behind[:4])}; nothing "
                "is lost; `headrace status` shows workers and errors, the same command goes on from here"
            )
        SYSTEM_CLOCK.wait(_POLL)
