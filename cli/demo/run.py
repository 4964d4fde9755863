"""The demo, stage by stage. A run that was interrupted goes on where it stopped when it is started again."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli import own_services
from cli.catalog import load
from cli.demo import checks, landing, level, materialize, quality
from cli.demo.expected import NAMES, TABLES
from cli.demo.lock import only_one
from cli.demo.report import Check, Outcome, show
from cli.demo.services import Services
from cli.demo.stages import Stages
from cli.signals import interruptible
from headrace import settings as configuration
from headrace.errors import UsageError
from headrace.logging import redact
from headrace.settings import Settings
from stack import Home

if TYPE_CHECKING:
    from assets.catalog import Catalog
    from orchestration.client import Location, Webserver
    from topology import Topic

TOPIC = "order-created-events"


@dataclass(frozen=True)
class Options:
    """What the user asked for."""

    leave: bool
    report: Path | None
    events: int
    days: int
    bad: float
    seed: int


def run(options: Options) -> int:
    """Everything once, then the summary; the exit code."""
    if options.report and not options.report.resolve().parent.is_dir():
        raise UsageError(f"--report: there is no folder {options.report.resolve().parent}; make it first")
    catalog = load()  # a wrong declaration ends the demo before anything starts
    if TOPIC not in catalog.topics:
        raise UsageError(f"the demo needs the topic {TOPIC}; unset HEADRACE_CATALOG or declare it there")
    home = Home()
    interruptible()
    with only_one(home):
        services: Services | None = None
        outcome = Outcome()
        try:
            with Stages() as stages:
                services = Services(home, stages)
                _whole_way(options, catalog, services, stages, outcome)
            show(outcome)
            if options.report:
                outcome.write(options.report)
            if not options.leave:
                click.echo(
                    "\nup until Ctrl-C; meanwhile: headrace status, headrace dlq list, headrace produce orders --help"
                )
                _until_interrupted(services)
        finally:
            if services:
                click.echo("stopping what the demo started; the data stays", err=True)
                services.stop()
    return 0 if outcome.green or not options.leave else 1


def _whole_way(options: Options, catalog: Catalog, services: Services, stages: Stages, outcome: Outcome) -> None:
    topic = catalog.topics[TOPIC]
    with ThreadPoolExecutor(1, thread_name_prefix="landing") as pool:
        files = pool.submit(_make_files, options, stages)
        with stages.stage("services"):
            services.up()
        settings = configuration.load()
        with stages.stage("provision") as stage:
            report = own_services.provision(settings, catalog)
            stage.say(str(report))
        services.supervisor()
        manifest = files.result()
    before = checks.ends(settings.kafka(), topic.name)
    with ThreadPoolExecutor(1, thread_name_prefix="broken") as pool:
        broken = pool.submit(_send_broken, topic, report.schema_ids[topic.name], settings, stages)
        with stages.stage("dagster") as stage:
            stage.say("code server, webserver and daemon load the definitions")
            webserver, location = services.dagster()
        began = time.monotonic()
        with stages.stage("ingest") as stage:
            ingested = materialize.ingest(webserver, location, topic, manifest, settings, stage)
        broken.result()
    with stages.stage("level") as stage:
        level.wait(settings, topic, list(TABLES), services, stage)
    tables_seconds = time.monotonic() - began
    with ThreadPoolExecutor(1, thread_name_prefix="graph") as pool:
        graph = pool.submit(_judge_graph, webserver, location, settings, stages)
        with stages.stage("checks") as stage:
            checks.examine(outcome, manifest, settings, topic, before, stage)
        outcome.checks = sorted([*outcome.checks, *graph.result()], key=lambda check: NAMES.index(check.name))
    _rates(outcome, ingested, tables_seconds)
    outcome.seconds = {**stages.seconds, "total": round(time.monotonic() - stages.began, 2)}
    outcome.addresses = _addresses(settings, webserver, location)


def _make_files(options: Options, stages: Stages) -> landing.Manifest:
    with stages.stage("landing files") as stage:
        folder = configuration.load().landing
        return landing.make(folder, options.events, options.days, options.bad, options.seed, stage)


def _send_broken(topic: Topic, schema_id: int, settings: Settings, stages: Stages) -> None:
    with stages.stage("broken records") as stage:
        sent = landing.send_broken(topic, schema_id, settings)
        stage.say("sent before" if sent.skipped else f"{sent.new_records} sent")


def _judge_graph(webserver: Webserver, location: Location, settings: Settings, stages: Stages) -> list[Check]:
    with stages.stage("graph") as stage:
        return quality.judge(webserver, location, settings, stage)


def _rates(outcome: Outcome, ingested: materialize.Ingested, seconds: float) -> None:
    if ingested.produced:
        outcome.rates["files -> topic"] = ingested.rate
        outcome.rates["files -> tables, Dagster run included"] = outcome.new_records / max(seconds, 0.001)


def _addresses(settings: Settings, webserver: Webserver, location: Location) -> dict[str, str]:
    return {
        "Dagster, the lineage graph": f"{webserver.url}/assets/kafka/{TOPIC}?view=lineage",
        "Dagster, the runs": f"{webserver.url}/runs",
        "data quality report": str(configuration.home_dir() / "quality" / "orders" / "docs" / "index.html"),
        "schema registry": f"{redact(settings.need_registry()).rstrip('/')}/subjects",
        "Kafka": settings.need_kafka(),
        "Postgres": f'psql "{redact(settings.need_postgres())}" (the password is in {configuration.endpoints_file()})',
    }


def _until_interrupted(services: Services) -> None:
    try:
        while True:
            time.sleep(1.0)
            services.check_supervisor()
    except KeyboardInterrupt:
        click.echo(err=True)
