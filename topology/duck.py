"""DuckDB as the workers use it, and the types it shares with Postgres."""

from __future__ import annotations

import duckdb


def connect() -> duckdb.DuckDBPyConnection:
    """An in-memory connection: one thread, time zone UTC, no files, no network, no extensions."""
    connection = duckdb.connect(
        ":memory:",
        config={
            "threads": 1,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "enable_external_access": False,
        },
    )
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def version() -> str:
    """DuckDB's version: expressions may mean something else in another one, so it is part of a table's version."""
    return str(duckdb.__version__)


def quoted(name: str) -> str:
    """`name` as an SQL identifier, for DuckDB and Postgres."""
    escaped = name.replace('"', '""')
    return f'"{escaped}"'


def text(value: str) -> str:
    """`value` as an SQL text literal, for DuckDB and Postgres."""
    escaped = value.replace("'", "''")
    return f"'{escaped}'"
