"""Postgres as root and as a plain user, reachable or not, with passwords that no log holds."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg
import pytest

import stack as services
from headrace.errors import ServiceFailed
from headrace.settings import ROOT
from stack import postgres, processes

NewHome = Callable[..., services.Home]
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to run as somebody else")


def _start(home: services.Home) -> None:
    postgres.start(home, lambda: False)


def _server(home: services.Home) -> psutil.Process:
    found = processes.find("postgres", home=home)
    assert found
    return psutil.Process(found.pid)


def test_roles_own_their_databases_and_see_no_other(new_home: NewHome) -> None:
    home = new_home()
    _start(home)
    for name in postgres.DATABASES:
        with psycopg.connect(postgres.url(home, name)) as connection:
            connection.execute("CREATE TABLE mine (x int)")
            assert connection.execute("SHOW fsync").fetchone() == ("on",)
            assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        psycopg.connect(postgres.url(home, "dagster", role="headrace"))
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(postgres.url(home, "headrace").replace(home.secret("postgres:headrace"), "guess"))
    assert {c.laddr.ip for c in _server(home).net_connections() if c.status == psutil.CONN_LISTEN} == {"127.0.0.1"}
    passwords = json.loads((home.root / "secrets.json").read_text()).values()
    logs = "".join(file.read_text() for file in (home.root / "logs").iterdir())
    commands = " ".join(_server(home).cmdline())
    assert not [password for password in passwords if password in logs + commands]
    assert stat.S_IMODE((home.root / "secrets.json").stat().st_mode) == 0o600
    if os.geteuid() == 0:
        assert _server(home).username() == "nobody"


def test_data_survives_a_crash_and_a_lost_password_is_explained(new_home: NewHome) -> None:
    home = new_home()
    _start(home)
    with psycopg.connect(postgres.url(home, "headrace")) as connection:
        connection.execute("CREATE TABLE kept (x int)")
    processes.kill("postgres", home=home)
    _start(home)
    with psycopg.connect(postgres.url(home, "headrace")) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
    (home.root / "secrets.json").unlink()
    with pytest.raises(ServiceFailed, match="do not belong together"):
        _start(home)


@root_only
def test_as_root_in_a_home_that_nobody_can_reach(new_home: NewHome) -> None:
    home = new_home(0o700)
    folder = postgres.data_folder(home)
    assert not folder.is_relative_to(home.root)
    try:
        _start(home)
        assert _server(home).username() == "nobody"
        with psycopg.connect(postgres.url(home, "headrace")) as connection:
            connection.execute("SELECT 1")
        assert stat.S_IMODE(home.root.stat().st_mode) == 0o700
    finally:
        processes.stop("postgres", home=home)
        shutil.rmtree(folder)
        if not any(folder.parent.iterdir()):
            folder.parent.rmdir()


@root_only
def test_as_root_with_programs_that_nobody_can_reach(new_home: NewHome, monkeypatch: pytest.MonkeyPatch) -> None:
    home = new_home()
    reachable = postgres._reachable
    monkeypatch.setattr(postgres, "_reachable", lambda path: "site-packages" not in path.parts and reachable(path))
    _start(home)
    assert Path(_server(home).exe()).is_relative_to(home.root / "postgres" / "programs")


@root_only
def test_as_a_plain_user(new_home: NewHome) -> None:
    python = _python_for_all()
    if python is None or not postgres._reachable(ROOT):
        pytest.skip("no interpreter of this version, or no checkout, that other accounts can reach")
    home = new_home()
    nobody = pwd.getpwnam("nobody")
    os.chown(home.root, nobody.pw_uid, nobody.pw_gid)
    code = (
        "import os; from stack import Home, postgres, down; import psycopg\n"
        "home = Home(); postgres.start(home, lambda: False)\n"
        "with psycopg.connect(postgres.url(home, 'headrace')) as c:\n"
        "    print(os.geteuid(), c.execute('SELECT 1').fetchone())\n"
        "print(down(home))"
    )
    done = subprocess.run(
        [python, "-c", code],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join([str(ROOT), sysconfig.get_path("purelib")]),
            "HEADRACE_HOME": str(home.root),
            "HEADRACE_CACHE": str(home.root / "cache"),
        },
        cwd=ROOT,
        user=nobody.pw_uid,
        group=nobody.pw_gid,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{nobody.pw_uid} (1,)", "['postgres']"]


def _python_for_all() -> Path | None:
    """An interpreter of the running version that every account can execute."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    candidates = [Path(sys.executable).resolve(), Path("/usr/bin", name), Path("/usr/local/bin", name)]
    return next((python for python in candidates if python.exists() and postgres._reachable(python.resolve())), None)


def test_an_initdb_that_fails_leaves_nothing(new_home: NewHome, monkeypatch: pytest.MonkeyPatch) -> None:
    home = new_home()
    monkeypatch.setattr(postgres, "SUPERUSER", "pg_is_a_reserved_prefix")
    with pytest.raises(ServiceFailed, match="initdb failed"):
        _start(home)
    assert not (postgres.data_folder(home) / "data").exists()
    monkeypatch.undo()
    _start(home)
