"""`headrace up`, `down`, `doctor` and `dev`: the services on this machine."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from cli.output import json_option, show_json, show_table

if TYPE_CHECKING:
    import subprocess


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
    import subprocess

    import stack
    from cli import dagster_services, own_services
    from cli.catalog import load
    from cli.signals import interruptible
    from headrace import settings
    from stack import dagster_home, ports

    found = load()
    home = stack.Home()
    running = {service.name for service in stack.state(home) if service.running}
    with stack.console() as progress:
        endpoints = stack.up(progress=progress, home=home)
    assert endpoints.dagster_postgres_url is not None  # `up` gives every address or raises
    own_services.provision(settings.load(), found)
    started = own_services.start_supervisor(home)
    dagster_home.write(home, endpoints.dagster_postgres_url)
    dagster_home.prepare_storage(home, endpoints.dagster_postgres_url)
    address = str(port or ports.choose(home, dagster_services.WEBSERVER))
    command = [sys.executable, "-m", "dagster", "dev", "-m", dagster_services.MODULE, "-h", ports.HOST, "-p", address]
    env = {**os.environ, **dagster_home.environment(home, endpoints.dagster_postgres_url)}
    click.echo(f"Dagster: http://{ports.HOST}:{address} (Ctrl-C stops it)")
    interruptible()
    child = subprocess.Popen(command, env=env)
    try:
        return child.wait()
    except KeyboardInterrupt:  # the terminal's Ctrl-C reached Dagster too; it stops its parts in order
        return 0
    finally:
        _end(child)
        if started:
            own_services.stop_supervisor(home)
        if not running & set(stack.SERVICES):
            stack.down(home)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Wait for Dagster to stop; one that did not get the terminal's Ctrl-C is told."""
    import signal
    import subprocess

    for number, patience in ((None, 5.0), (signal.SIGINT, 30.0), (signal.SIGKILL, 5.0)):
        if number is not None:
            child.send_signal(number)
        try:
            child.wait(patience)
            return
        except subprocess.TimeoutExpired:
            continue


COMMANDS: tuple[click.Command, ...] = (up, down, doctor, dev)
