"""`headrace dlq`: records and lines that were not applied, and what becomes of them."""

from __future__ import annotations

import click

from cli.dlq.deciding import dlq_drop, dlq_replay
from cli.dlq.looking import dlq_list, dlq_show


@click.group()
def dlq() -> None:
    """Dead letters: what was refused, why, where; replayed or dropped."""


for command in (dlq_list, dlq_show, dlq_replay, dlq_drop):
    dlq.add_command(command)

COMMANDS: tuple[click.Command, ...] = (dlq,)
