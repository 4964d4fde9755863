"""Entry point of the `headrace` command: registers the groups and turns every failure into one line.

The modules of the groups import only click; what a command needs is imported when it runs, so that `headrace --help`
answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from cli import catalog, demo, dlq, fleet, ingest, lake, pipeline, processes, produce, services, status
from headrace.errors import HeadraceError, ServiceFailed

_EXAMPLES = """\b
Examples:
  headrace up                        start Kafka, the schema registry and Postgres on this machine
  headrace demo                      the whole way once: files -> Kafka -> tables, with Dagster beside it
  headrace status                    workers, lag, throughput, errors
  headrace dlq list                  records that were refused, and why
"""


class _InOrder(click.Group):
    """Lists commands in the order they were added: the order a new user needs them in."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    cls=_InOrder, epilog=_EXAMPLES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(package_name="headrace", prog_name="headrace")
@click.option("--debug", is_flag=True, envvar="HEADRACE_DEBUG", help="Show the traceback of an unexpected error.")
def headrace(debug: bool) -> None:
    """Nightly batch tables as exactly-once streams inside one Dagster lineage graph."""


for command in (
    *demo.COMMANDS,
    *services.COMMANDS,
    *status.COMMANDS,
    *dlq.COMMANDS,
    *catalog.COMMANDS,
    *produce.COMMANDS,
    *ingest.COMMANDS,
    *processes.COMMANDS,
    *fleet.COMMANDS,
    *pipeline.COMMANDS,
    *lake.COMMANDS,
):
    headrace.add_command(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given or bool(os.environ.get("HEADRACE_DEBUG"))
    try:
        outcome = headrace.main(args=given, prog_name="headrace", standalone_mode=False)
        sys.stdout.flush()
        return outcome if isinstance(outcome, int) else 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _say("interrupted", 130)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "headrace"
        return _say(f"{_sentence(error.format_message())}; see `{command} --help`", 2)
    except click.ClickException as error:
        return _say(error.format_message(), 1)
    except ServiceFailed as error:  # carries the last log lines of the service
        if debug:
            raise
        return _say(str(error), 1, lines=True)
    except HeadraceError as error:
        if debug:
            raise
        return _say(str(error), 1)
    except BrokenPipeError:  # the reader of our output has gone, such as `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if debug:
            raise
        return _say(f"unexpected {type(error).__name__}: {error}; `headrace --debug ...` shows where it happened", 1)


def _say(message: str, code: int, *, lines: bool = False) -> int:
    from headrace.logging import redact

    click.echo("headrace: " + redact(message if lines else " ".join(message.split())), err=True)
    return code


def _sentence(message: str) -> str:
    return message.strip().rstrip(".")


if __name__ == "__main__":
    sys.exit(main())
