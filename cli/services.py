"""`headrace up`, `down`, `doctor` and `dev`: the services on this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.output import json_option, show_json, show_table

if TYPE_CHECKING:
    import stack


@click.command()
@click.option(
    "--only", multiple=True, metavar="SERVICE", help="Only this service: postgres, kafka or registry; repeatable."
)
@json_option
def up(only: tuple[str, ...], as_json: bool) -> None:
    """Start Kafka, the schema registry and Postgres.

    What runs already is left alone. A service whose address is set in the environment (HEADRACE_KAFKA_BOOTSTRAP,
    HEADRACE_REGISTRY_URL, HEADRACE_POSTGRES_URL) is used as it is and not started.

    \b
    Examples:
      headrace up
      headrace up --only kafka
    """
    import stack
    from headrace.logging import redact

    with stack.console() as progress:
        endpoints = stack.up(only=only or None, progress=progress)
    addresses = {name: redact(address) for name, address in vars(endpoints).items() if address}
    if as_json:
        show_json(addresses)
        return
    show_table("services", ["setting", "address"], sorted(addresses.items()))
    click.echo("next: `headrace demo`, `headrace status`; stop with `headrace down`")


@click.command()
def down() -> None:
    """Stop everything that was started; the data stays.

    \b
    Examples:
      headrace down
    """
    import stack

    with stack.console() as progress:
        stopped = stack.down(progress=progress)
    click.echo(f"stopped: {', '.join(stopped)}" if stopped else "nothing was running")


@click.command()
@json_option
def doctor(as_json: bool) -> int:
    """Find what is wrong, and the command that helps.

    Exit code 1 when something needs a person.

    \b
    Examples:
      headrace doctor
      headrace doctor --json
    """
    from cli.examination import examine

    findings = examine()
    if as_json:
        show_json(findings)
    else:
        show_table(
            "doctor",
            ["what", "state", "detail", "remedy"],
            [(f.name, "ok" if f.ok else "PROBLEM", f.message, "" if f.ok else f.remedy) for f in findings],
        )
    return 0 if all(finding.ok for finding in findings) else 1


@click.command()
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Port of the Dagster webserver; by default the remembered one."
)
def dev(port: int | None) -> int:
    """Services, workers and `dagster dev`, until Ctrl-C.

    \b
    Examples:
      headrace dev
      headrace dev --port 3000
    """
    import stack
    from cli import dagster_services, own_services
    from cli.catalog import load
    from cli.signals import interruptible
    from headrace import settings
    from stack import dagster_home, ports

    found = load()
    home = stack.Home()
    before = any(stack.processes.alive(name, home=home) for name in stack.SERVICES)  # of this home, not given ones
    started = False
    try:
        interruptible()
        with stack.console() as progress:
            endpoints = stack.up(progress=progress, home=home)
        assert endpoints.dagster_postgres_url is not None  # `up` gives every address or raises
        own_services.provision(settings.load(), found)
        started = own_services.start_supervisor(home)
        dagster_home.write(home, endpoints.dagster_postgres_url)
        dagster_home.prepare_storage(home, endpoints.dagster_postgres_url)
        if port:
            ports.remember(home, dagster_services.WEBSERVER, port)  # other commands look for the webserver there
        address = str(port or ports.choose(home, dagster_services.WEBSERVER))
        options = ["-m", dagster_services.MODULE, "-h", ports.HOST, "-p", address]
        click.echo(f"Dagster: http://{ports.HOST}:{address} (Ctrl-C stops it)", err=True)
        # In a session of its own: stopping it also ends what it leaves behind when it is stopped while it starts.
        stack.processes.start(
            dagster_services.DEV,
            [sys.executable, "-m", "dagster", "dev", *options],
            dagster_home.environment(home, endpoints.dagster_postgres_url),
            home=home,
            cwd=Path.cwd(),
        )
        _show_log(home)
        click.echo(f"`dagster dev` ended; its log: {home.log_file(dagster_services.DEV)}", err=True)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        click.echo("stopping what was started; the data stays", err=True)
        stack.processes.stop(dagster_services.DEV, home=home)
        if started:
            own_services.stop_supervisor(home)
        if not before:
            stack.down(home)


def _show_log(home: stack.Home) -> None:
    """Print what `dagster dev` writes, until it ends."""
    from cli.dagster_services import DEV
    from headrace.clock import SYSTEM_CLOCK
    from stack import processes

    with home.log_file(DEV).open(errors="replace") as log:
        while True:
            alive = processes.alive(DEV, home=home)
            text = log.read()
            if text:
                click.echo(text, nl=False)
            if not alive:
                return
            SYSTEM_CLOCK.wait(0.3)


COMMANDS: tuple[click.Command, ...] = (up, down, doctor, dev)
