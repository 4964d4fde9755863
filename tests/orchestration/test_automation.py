"""What is made from a table waits for the table's blocking checks, whoever judged them and whenever."""

# No postponed annotations here: dagster looks at the type of `context`.
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from dagster import (
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetKey,
    AssetSelection,
    Definitions,
    asset,
    define_asset_job,
    evaluate_automation_conditions,
    multi_asset_check,
)
from dagster._core.definitions.asset_daemon_cursor import AssetDaemonCursor

from assets import catalog
from orchestration import checks, code, keys, tables, topics
from orchestration.automation import WHEN_CERTIFIED
from orchestration.verdict import lasting
from tests.conftest import Services
from tests.orchestration.ticking import Line, dagster_instance, line

SALES = keys.table_key("product_sales")
QUALITY = AssetCheckSpec("quality", asset=SALES, blocking=True)


@pytest.fixture
def live(stack: Services, database: str, tmp_path: Path) -> Iterator[Line]:
    with dagster_instance(stack, tmp_path) as dagster, line(database, dagster, datetime.now(UTC)) as found:
        yield found


def definitions(verdict: list[bool]) -> Definitions:
    """The tables with their cheap checks, a blocking check that is judged by a run, and a report made from a table."""
    found = catalog.load("tests.catalogs")
    program = found.pipelines["orders"]
    nowhere = code.Place(Path(__file__), 1)

    @multi_asset_check(specs=[QUALITY])
    def quality(context: AssetCheckExecutionContext) -> Iterator[AssetCheckResult]:
        result = AssetCheckResult(
            passed=verdict[-1], asset_key=SALES, check_name="quality", severity=AssetCheckSeverity.ERROR
        )
        yield from lasting(context.instance, [result])

    @asset(deps=[SALES], automation_condition=WHEN_CERTIFIED)
    def report() -> None: ...

    return Definitions(
        assets=[
            topics.asset(program.topic, [], nowhere),
            *(tables.asset(t, program.name, nowhere) for t in program.tables),
            report,
        ],
        asset_checks=[checks.check(program), quality],
    )


class Automation:
    """Evaluations of the report's condition, one after the other."""

    def __init__(self, live: Line) -> None:
        self.live, self.verdict = live, [True]
        self.cursor: AssetDaemonCursor | None = None
        self.defs = definitions(self.verdict)

    def requested(self) -> bool:
        """Whether the report would be made now."""
        done = evaluate_automation_conditions(self.defs, self.live.dagster, cursor=self.cursor)
        self.cursor = done.cursor
        return done.get_num_requested(AssetKey("report")) > 0

    def judge(self, passed: bool) -> None:
        """A run judges the quality check."""
        self.verdict.append(passed)
        (check,) = [
            one
            for one in self.defs.asset_checks or []
            if isinstance(one, AssetChecksDefinition) and QUALITY.key in one.check_keys
        ]
        job = define_asset_job("judge", AssetSelection.checks(check))
        resolved = Definitions(self.defs.assets, jobs=[job], asset_checks=[check]).resolve_job_def("judge")
        run = resolved.execute_in_process(instance=self.live.dagster, raise_on_error=False)
        assert run.success is passed  # a blocking check that fails fails its run

    def rows(self) -> None:
        """The table changes and the fleet reports it."""
        self.live.produce(10)
        self.live.consume(self.live.now)
        self.live.tick(300)


def test_a_failed_blocking_check_holds_back_what_is_downstream(live: Line) -> None:
    automation = Automation(live)
    live.start("w1")
    automation.requested()  # the first look only remembers
    automation.rows()
    assert not automation.requested(), "the quality check never ran"
    automation.judge(True)
    assert automation.requested()

    automation.rows()
    assert automation.requested(), "the run's verdict holds for the rows that came since"
    automation.judge(False)
    automation.rows()
    assert not automation.requested(), "so does a bad one"
    automation.judge(True)
    assert automation.requested(), "the update that was held back is not lost"

    live.db.execute("alter table ledger.positions drop constraint fates")
    live.db.execute("update ledger.positions set applied = applied + 1 where table_version like 'product_sales%'")
    automation.rows()
    assert not automation.requested(), "the fleet found the accounting broken"
    live.db.execute("update ledger.positions set applied = applied - 1 where table_version like 'product_sales%'")
    live.tick()
    assert automation.requested()
