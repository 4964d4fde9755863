"""SQL of the ledger, one statement a file, with psycopg placeholders."""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def sql(name: str) -> bytes:
    """The statement in `<name>.sql`."""
    return resources.files(__name__).joinpath(f"{name}.sql").read_bytes()
