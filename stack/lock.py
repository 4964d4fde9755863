"""`python -m stack.lock`: resolve `jgo.toml` into `jgo.lock.toml` (part of `make lock`, needs the Maven repository)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from stack.artifacts import LOCK, sha256

SPEC = LOCK.with_name("jgo.toml")
APICURIO = ("io.apicurio", "apicurio-registry-app", "3.3.3", "all", "tar.gz")


def main() -> None:
    """Write the lock file anew: Kafka's jars as jgo resolves them, then Apicurio's archive."""
    import tomli_w
    from jgo.env import EnvironmentSpec
    from jgo.maven import MavenContext, PythonResolver

    with tempfile.TemporaryDirectory() as repository:
        context = MavenContext(resolver=PythonResolver(), repo_cache=Path(repository), timeout=60)
        wanted = [context.create_dependency(c) for c in EnvironmentSpec.load(SPEC).coordinates]
        direct, transitive = context.resolver.resolve(wanted)
        group, name, version, classifier, packaging = APICURIO
        archive = context.project(group, name).at_version(version).artifact(classifier, packaging)
        artifacts = [dependency.artifact for dependency in (*direct, *transitive)] + [archive]
        entries = sorted((_entry(a) for a in artifacts), key=lambda e: (e["groupId"], e["artifactId"]))
    with LOCK.open("wb") as file:
        file.write(b"# Made by `make lock` from jgo.toml. Versions and checksums only; never edit by hand.\n")
        tomli_w.dump({"dependencies": entries}, file)
    print(f"{LOCK.name}: {len(entries)} files, {sum(e['size'] for e in entries) / 1e6:.0f} MB")


def _entry(artifact: Any) -> dict[str, Any]:
    path = Path(artifact.resolve())
    entry = {
        "groupId": artifact.groupId,
        "artifactId": artifact.artifactId,
        "version": artifact.version,
        "packaging": artifact.packaging,
        "classifier": artifact.classifier,
        "size": path.stat().st_size,
        "sha256": sha256(path),
    }
    return {key: value for key, value in entry.items() if value != ""}


if __name__ == "__main__":
    main()
