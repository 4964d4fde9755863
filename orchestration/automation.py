"""When an asset made from stream-fed tables should be made again."""

from __future__ import annotations

from dagster import AutomationCondition

_UPDATED = AutomationCondition.any_deps_updated()

# No update is lost, and these tables update all the time. `eager()` and `since_last_handled()` forget one that arrives
# at the look after a request, or while the requested run is under way: the end of the run wipes it. Here a request
# alone settles what was before it, and an update seen at the same look outlives it.
# Days without rows are missing for ever, so that missing partitions hold nothing back. A blocking check that failed,
# or never ran, does.
WHEN_CERTIFIED = (
    _UPDATED.since((AutomationCondition.newly_requested() | AutomationCondition.initial_evaluation()) & ~_UPDATED)
    & AutomationCondition.all_deps_blocking_checks_passed()
    & ~AutomationCondition.in_progress()
).with_label("when_certified")
