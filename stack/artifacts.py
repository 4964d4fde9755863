"""The JVM parts: downloaded once per user, checked against `jgo.lock.toml`, kept in a cache that checkouts share.

A bundle (`kafka`, `apicurio`) is a folder named after its part of the lock. It appears in the cache by one rename,
after every file in it has been checked: a folder that exists is complete.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tarfile
import tempfile
import threading
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from headrace.errors import ServiceFailed, ServiceUnavailable
from stack.progress import Event, Progress

LOCK = Path(__file__).with_name("jgo.lock.toml")
_safe: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # Debian 12's 3.11.2 lacks it
_ATTEMPTS = 3
_PARALLEL = 6


@dataclass(frozen=True)
class Artifact:
    """One locked file: Maven coordinate, size in bytes and sha256."""

    group: str
    name: str
    version: str
    packaging: str
    classifier: str
    size: int
    sha256: str

    @property
    def filename(self) -> str:
        """File name in a Maven repository."""
        suffix = f"-{self.classifier}" if self.classifier else ""
        return f"{self.name}-{self.version}{suffix}.{self.packaging}"


def cache_dir() -> Path:
    """Folder of downloaded parts: `HEADRACE_CACHE`, by default `~/.cache/headrace`."""
    return Path(os.environ.get("HEADRACE_CACHE") or Path.home() / ".cache" / "headrace").resolve()


@cache
def locked() -> dict[str, tuple[Artifact, ...]]:
    """The locked files of each bundle: jars of Kafka, and Apicurio's archive."""
    entries = tomllib.loads(LOCK.read_text())["dependencies"]
    files = [
        Artifact(
            e["groupId"], e["artifactId"], e["version"], e["packaging"], e.get("classifier", ""), e["size"], e["sha256"]
        )
        for e in entries
    ]
    return {
        "kafka": tuple(f for f in files if f.packaging == "jar"),
        "apicurio": tuple(f for f in files if f.packaging == "tar.gz"),
    }


def folder(bundle: str) -> Path:
    """Where the bundle is, or will be."""
    key = hashlib.sha256("".join(f.filename + f.sha256 for f in locked()[bundle]).encode()).hexdigest()[:16]
    return cache_dir() / f"{bundle}-{key}"


def present(bundle: str) -> bool:
    """Whether the bundle is in the cache."""
    return folder(bundle).is_dir()


def missing_bytes() -> int:
    """How much `fetch` of all bundles would download."""
    return sum(f.size for bundle, files in locked().items() if not present(bundle) for f in files)


def damaged() -> list[str]:
    """Names of cached jars that differ from the lock (archives are unpacked, so only jars can be compared)."""
    found = [(folder("kafka") / f.filename, f.sha256) for f in locked()["kafka"]] if present("kafka") else []
    return [path.name for path, wanted in found if not path.is_file() or sha256(path) != wanted]


def fetch(bundle: str, progress: Progress) -> Path:
    """The bundle's folder, downloading what the cache lacks.

    Raises `ServiceUnavailable` when the repository does not answer, `ServiceFailed` when a file is not the locked one.
    """
    target = folder(bundle)
    if target.is_dir():
        return target
    try:
        cache_dir().mkdir(parents=True, exist_ok=True)
        with _one_at_a_time(bundle):
            if not target.is_dir():
                _fill(bundle, target, progress)
    except OSError as error:
        raise ServiceFailed(
            f"{bundle} cannot be put into the cache {cache_dir()} ({error}); make room there or set HEADRACE_CACHE"
        ) from error
    return target


def _fill(bundle: str, target: Path, progress: Progress) -> None:
    files = locked()[bundle]
    total = sum(f.size for f in files)
    done = 0
    guard = threading.Lock()
    label = f"{bundle} download"

    def count(size: int) -> None:
        nonlocal done
        with guard:
            done += size
            progress(Event(label, "downloading", f"{len(files)} files", done, total))

    with tempfile.TemporaryDirectory(dir=cache_dir(), prefix=f".{bundle}-") as staging:
        count(0)
        parts, bag = Path(staging, "repository"), Path(staging, "bundle")
        bag.mkdir()
        with ThreadPoolExecutor(_PARALLEL) as pool:
            for path in list(pool.map(lambda f: _download(f, parts, count), files)):
                if path.name.endswith(".tar.gz"):
                    with tarfile.open(path) as archive:
                        archive.extractall(bag, **_safe)
                else:
                    path.rename(bag / path.name)
        bag.chmod(0o755)
        bag.rename(target)
    progress(Event(label, "ready", f"{total / 1e6:.0f} MB", total, total))


def _download(file: Artifact, repository: Path, count: Callable[[int], None]) -> Path:
    """One file, checked; a broken connection is tried again, a wrong checksum is not."""
    from jgo.maven import MavenContext, PythonResolver  # its import is slow and only a first start needs it

    @contextmanager
    def counting(_name: str, _total: int) -> Iterator[Callable[[int], None]]:
        yield count

    context = MavenContext(resolver=PythonResolver(progress_callback=counting), repo_cache=repository, timeout=60)
    artifact = context.project(file.group, file.name).at_version(file.version).artifact(file.classifier, file.packaging)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            path = Path(artifact.resolve())
            break
        except Exception as error:  # jgo raises what requests raises, and RuntimeError for everything else
            shutil.rmtree(repository / artifact.component.path_prefix, ignore_errors=True)
            if attempt == _ATTEMPTS:
                raise ServiceUnavailable(
                    f"{file.filename} could not be downloaded ({type(error).__name__}); nothing was changed, the next "
                    "`headrace up` tries again (a proxy is taken from HTTPS_PROXY)"
                ) from error
    if sha256(path) != file.sha256:
        raise ServiceFailed(
            f"{file.filename} is not the file that stack/jgo.lock.toml names (sha256 differs): it was thrown away; "
            "check the Maven repository or proxy, then run `headrace up` again"
        )
    return path


def sha256(path: Path) -> str:
    """The file's sha256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _one_at_a_time(bundle: str) -> Iterator[None]:
    """Two checkouts that start together download once."""
    with (cache_dir() / f".{bundle}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
