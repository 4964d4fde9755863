"""A check's outcome, as plain data; and as the two things Dagster wants: an event of a tick, or the result of a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from dagster import (
    AssetCheckEvaluation,
    AssetCheckKey,
    AssetCheckResult,
    AssetCheckSeverity,
    AssetKey,
    DagsterInstance,
)


@dataclass(frozen=True)
class Verdict:
    """What a check found: `says` in one line, `numbers` for the metadata.

    severe: red rather than yellow when it fails. blocking: it holds back what is downstream.
    """

    asset: AssetKey
    check: str
    passed: bool
    says: str
    numbers: Mapping[str, int | float | str] = field(default_factory=dict)
    severe: bool = True
    blocking: bool = False

    @property
    def key(self) -> AssetCheckKey:
        """The check's key."""
        return AssetCheckKey(self.asset, self.check)

    def evaluation(self) -> AssetCheckEvaluation:
        """As an event that belongs to no run."""
        return AssetCheckEvaluation(
            asset_key=self.asset,
            check_name=self.check,
            passed=self.passed,
            metadata=dict(self.numbers),
            severity=_severity(self.severe),
            description=self.says,
        )

    def result(self) -> AssetCheckResult:
        """As the result of a run's check."""
        return AssetCheckResult(
            asset_key=self.asset,
            check_name=self.check,
            passed=self.passed,
            metadata=dict(self.numbers),
            severity=_severity(self.severe),
            description=self.says,
        )


def lasting(instance: DagsterInstance, results: Iterable[AssetCheckResult]) -> Iterator[AssetCheckResult]:
    """Yield the results, then report them once more as events that belong to no run.

    Dagster shows and counts a check only when it judged the asset's newest materialization; ticks materialize every few
    minutes, so that a run's verdict would count for minutes (docs/adr/lasting-verdicts.md). One that belongs to no run
    counts until the next. Results need `asset_key` and `check_name`.
    """
    found = []
    for result in results:
        found.append(result)
        yield result
    for result in found:
        assert result.asset_key is not None and result.check_name is not None  # the caller's contract
        instance.report_runless_asset_event(
            AssetCheckEvaluation(
                asset_key=result.asset_key,
                check_name=result.check_name,
                passed=result.passed,
                metadata=result.metadata,
                severity=result.severity,
                description=result.description,
            )
        )


def _severity(severe: bool) -> AssetCheckSeverity:
    return AssetCheckSeverity.ERROR if severe else AssetCheckSeverity.WARN
