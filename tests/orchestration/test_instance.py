"""The id by which the fleet tells one Dagster instance from another, on a real storage."""

from __future__ import annotations

import uuid
from pathlib import Path

import psycopg
import pytest
from dagster import DagsterInstance
from dagster_postgres import PostgresRunStorage

from orchestration.instance import identity
from stack import Home, dagster_home


def test_the_id_is_there_before_processes_start_together(dagster_database: str, tmp_path: Path) -> None:
    place = Home(tmp_path)
    dagster_home.write(place, dagster_database)
    dagster_home.prepare_storage(place, dagster_database)
    with psycopg.connect(dagster_database.replace("+psycopg2", "")) as db:
        assert db.execute("select count(*) from instance_info").fetchone() == (1,)


def test_an_instance_with_two_ids_has_one_identity(
    dagster_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes that ask a new storage at once make two ids; Postgres returns whichever row it meets first."""
    place = Home(tmp_path)
    dagster_home.write(place, dagster_database)
    monkeypatch.setenv(dagster_home.VARIABLE, dagster_database)
    with DagsterInstance.from_config(str(dagster_home.folder(place))) as instance:
        before = identity(instance)
        with psycopg.connect(dagster_database.replace("+psycopg2", "")) as db:
            db.execute("insert into instance_info (run_storage_id) values (%s)", [str(uuid.uuid4())])
            db.execute("update instance_info set run_storage_id = run_storage_id where id = 1")  # moves it to the end
        storage = instance.run_storage
        assert isinstance(storage, PostgresRunStorage)
        assert storage.get_run_storage_id() != before, "what Dagster says has changed"
        assert identity(instance) == before
