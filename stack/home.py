"""The home folder: what the local services keep, where their logs and pid files are, their passwords and addresses."""

from __future__ import annotations

import json
import os
import secrets
import threading
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from headrace.errors import ServiceFailed
from headrace.settings import home_dir


@dataclass(frozen=True)
class Endpoints:
    """Addresses of the services; None for one that is neither started nor given by the environment."""

    kafka_bootstrap: str | None = None
    registry_url: str | None = None
    postgres_url: str | None = None
    dagster_postgres_url: str | None = None

    @classmethod
    def given(cls) -> Endpoints:
        """Addresses of existing services, from the environment."""
        return cls(**{f.name: os.environ.get(f"HEADRACE_{f.name.upper()}") or None for f in fields(cls)})

    def over(self, other: Endpoints) -> Endpoints:
        """These addresses, and `other`'s where there is none."""
        return Endpoints(**{name: value or getattr(other, name) for name, value in asdict(self).items()})


class Home:
    """Paths and small JSON files below one home folder. Files with secrets have mode 0600."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = (root or home_dir()).resolve()

    @property
    def endpoints_file(self) -> Path:
        """Addresses of the running local services; headrace.settings reads it."""
        return self.root / "endpoints.json"

    def folder(self, *parts: str) -> Path:
        """A folder below home, made if it is not there."""
        path = self.root.joinpath(*parts)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ServiceFailed(
                f"{path} cannot be made ({error.strerror}); set HEADRACE_HOME to a folder that you may write"
            ) from error
        return path

    def pid_file(self, name: str) -> Path:
        """The pid file of a process."""
        return self.folder("run") / f"{name}.json"

    def log_file(self, name: str) -> Path:
        """The log of a process: standard output and error of its last run."""
        return self.folder("logs") / f"{name}.log"

    def secret(self, name: str) -> str:
        """A password (or id) that is made once and then kept."""
        file = self.root / "secrets.json"
        known = read_json(file)
        if name not in known:
            known[name] = secrets.token_urlsafe(24)
            self.folder()
            write_private(file, json.dumps(known, indent=1))
        return str(known[name])

    def endpoints(self) -> Endpoints:
        """Addresses of the local services as `up` last wrote them."""
        known = read_json(self.endpoints_file)
        return Endpoints(**{f.name: known.get(f.name) for f in fields(Endpoints)})

    def write_endpoints(self, endpoints: Endpoints) -> None:
        """Publish the addresses of the local services."""
        write_private(
            self.endpoints_file, json.dumps({k: v for k, v in asdict(endpoints).items() if v is not None}, indent=1)
        )


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file, empty when there is none or it was cut short."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_private(file: Path, text: str) -> None:
    """Replace a file in one step; nobody else may read it, not even for a moment."""
    part = file.with_name(f".{file.name}.{os.getpid()}.{threading.get_ident()}")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
        handle.write(text + "\n")
    part.replace(file)
