"""`headrace worker` and `headrace supervisor`: the long-running processes in the foreground, and their switches."""

from __future__ import annotations

import click

from cli import switch
from cli.catalog import load


@click.group()
def worker() -> None:
    """Stream workers, one OS process each."""


@worker.command("run")
@click.argument("pipeline")
@click.option("--worker", "worker_id", help="Name of this worker in the ledger; by default made from the pipeline.")
def worker_run(pipeline: str, worker_id: str | None) -> int:
    """Run one worker of PIPELINE until SIGTERM or Ctrl-C; it finishes its batch, commits and releases its shards.

    \b
    Examples:
      headrace worker run orders
      headrace worker run orders --worker orders-2
    """
    from headrace import lean, logging
    from headrace.errors import UsageError
    from headrace.settings import settings
    from stream_workers import worker as room

    lean.without_pandas()
    found = load()
    if pipeline not in found.pipelines:
        raise UsageError(f'no pipeline "{pipeline}"; there is: {", ".join(sorted(found.pipelines)) or "none"}')
    logging.configure(settings().log_level)
    return room.run(found.pipelines[pipeline], settings(), worker_id)


for _command in switch.COMMANDS:
    worker.add_command(_command)


@click.group()
def supervisor() -> None:
    """The process that starts, restarts and drains workers."""


@supervisor.command("run")
def supervisor_run() -> int:
    """Keep the workers of every pipeline that is switched on running, until SIGTERM or Ctrl-C.

    \b
    Examples:
      headrace supervisor run
      HEADRACE_WORKERS=2 headrace supervisor run
    """
    from headrace import logging
    from headrace.settings import settings
    from stream_workers import supervisor as room

    found = load()
    logging.configure(settings().log_level)
    return room.run(found.pipelines, settings())


COMMANDS: tuple[click.Command, ...] = (worker, supervisor)
