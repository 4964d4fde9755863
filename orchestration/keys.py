"""Asset keys and group names: one place, so that lineage, runs and reports name the same things."""

from __future__ import annotations

import re

from dagster import AssetKey

from topology.program import TableProgram

INGEST = "ingest"  # the job that ingests every topic
TOPICS = "topics"
FILES = "landing_files"
TABLES = "stream_tables"
DERIVED = "derived_topics"
EMITTED = "emitted_topics"
LAKES = "lakes"
VIEWS = "views"
MAKERS = "makers"  # the check of the workers that make a derived topic or a lake


def topic_key(topic: str) -> AssetKey:
    """A Kafka topic. The prefix keeps topic `product-sales` and table `product_sales` apart: one op name otherwise."""
    return AssetKey(["kafka", topic])


def source_key(source: str) -> AssetKey:
    """The landing files of one `FileSource`."""
    return AssetKey(["files", source])


def table_key(table: str) -> AssetKey:
    """A table or view in Postgres."""
    return AssetKey(["postgres", table])


def lake_key(archive: str) -> AssetKey:
    """A lake of Parquet files."""
    return AssetKey(["lake", archive])


def program_key(program: TableProgram) -> AssetKey:
    """What a worker makes: a table, a derived topic or a lake."""
    if program.archive:
        return lake_key(program.name)
    return topic_key(program.name) if program.derived else table_key(program.name)


def op_name(name: str) -> str:
    """A topic's name as part of an op's; the catalog refuses topics that differ in dots and dashes only."""
    return re.sub(r"\W", "_", name)
