"""The stack as a whole: up is idempotent, down leaves nothing, existing services are left alone, two homes fit."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

import stack as services
from headrace import settings
from headrace.errors import ServiceFailed, SettingsError, UsageError
from stack import artifacts, kafka, postgres, processes

if TYPE_CHECKING:
    from tests.conftest import Services

NewHome = Callable[..., services.Home]


@pytest.fixture
def without_addresses(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("KAFKA_BOOTSTRAP", "REGISTRY_URL", "POSTGRES_URL", "DAGSTER_POSTGRES_URL"):
        monkeypatch.delenv(f"HEADRACE_{name}", raising=False)
    yield
    settings.settings.cache_clear()


@pytest.mark.usefixtures("without_addresses")
def test_up_again_changes_nothing(stack: Services) -> None:
    place = services.Home(stack.home)
    pids = {s.name: s.pid for s in services.state(place)}
    events: list[services.Event] = []
    again = services.up(progress=events.append, home=place)
    assert {s.name: s.pid for s in services.state(place)} == pids
    assert again.kafka_bootstrap == stack.kafka_bootstrap
    assert {e.part for e in events if e.state == "ready"} == {"kafka", "postgres", "registry"}
    assert settings.load().need_registry() == stack.registry_url
    assert stat.S_IMODE(place.endpoints_file.stat().st_mode) == 0o600
    assert all(s.running and s.rss > 0 for s in services.state(place))
    assert all(f.ok for f in services.doctor(place)), services.doctor(place)


def test_everything_listens_on_loopback_only(stack: Services) -> None:
    for control in (stack.kafka, stack.postgres, stack.registry):
        connections = psutil.Process(control.pid).net_connections()
        assert {c.laddr.ip.removeprefix("::ffff:") for c in connections if c.status == psutil.CONN_LISTEN} == {
            "127.0.0.1"
        }


def test_no_password_in_logs_or_command_lines(stack: Services) -> None:
    passwords = list(json.loads((stack.home / "secrets.json").read_text()).values())
    shown = "".join(file.read_text(errors="replace") for file in (stack.home / "logs").iterdir())
    shown += " ".join(" ".join(psutil.Process(c.pid).cmdline()) for c in (stack.kafka, stack.postgres, stack.registry))
    shown += repr(services.state(services.Home(stack.home)))
    assert not [p for p in passwords if p in shown]


def test_kafka_keeps_everything(stack: Services, kafka_admin: AdminClient, topic_name: str) -> None:
    kafka_admin.create_topics([NewTopic(topic_name, 1, 1)])[topic_name].result(20)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic_name)
    config = kafka_admin.describe_configs([resource])[resource].result(20)
    assert config["retention.ms"].value == "-1"
    assert config["retention.bytes"].value == "-1"
    missing = f"{topic_name}-missing"
    assert kafka_admin.list_topics(missing, timeout=10).topics[missing].error is not None
    assert missing not in kafka_admin.list_topics(timeout=10).topics


def test_a_service_comes_back_after_a_crash_on_its_port(stack: Services, topic_name: str) -> None:
    admin = AdminClient({"bootstrap.servers": stack.kafka_bootstrap, "log_level": 0})
    admin.create_topics([NewTopic(topic_name, 1, 1)])[topic_name].result(20)
    pid = stack.kafka.pid
    stack.kafka.restart(crash=True)
    assert stack.kafka.pid != pid
    assert topic_name in admin.list_topics(timeout=20).topics
    stack.postgres.restart(crash=True)
    assert kafka.bootstrap(services.Home(stack.home)) == stack.kafka_bootstrap


def test_two_homes_side_by_side_and_down_leaves_nothing(
    stack: Services, new_home: NewHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stack.dagster_home.prepare_storage", lambda _home, _url: None)  # slow, and not the question
    first, second = new_home(), new_home()
    for home in (first, second):
        services.up(only=["postgres"], home=home)
    assert first.endpoints().postgres_url != second.endpoints().postgres_url
    assert first.endpoints().kafka_bootstrap is None
    before = [p for p in _processes_of(first) if p.is_running()]
    assert before
    assert services.down(first) == ["postgres"]
    assert not _processes_of(first)
    assert not first.endpoints_file.exists()
    assert not list((first.root / "run").iterdir())
    assert processes.alive("postgres", home=second)
    assert processes.alive("postgres", home=services.Home(stack.home))
    assert services.down(first) == []


def test_ctrl_c_ends_the_wait_and_down_cleans_up(new_home: NewHome) -> None:
    home = new_home()
    environment = {**os.environ, "HEADRACE_HOME": str(home.root)}
    command = subprocess.Popen(
        [sys.executable, "-m", "stack", "up"], cwd=settings.ROOT, env=environment, stderr=subprocess.PIPE, text=True
    )
    assert command.stderr
    seen = ""
    while "registry: starting" not in seen:
        line = command.stderr.readline()
        assert line, seen
        seen += line
    command.send_signal(signal.SIGINT)
    _, rest = command.communicate(timeout=60)
    assert command.returncode == 130, seen + rest
    assert "stack down" in rest and "Traceback" not in rest
    started = processes.names(home)
    assert "postgres" in started
    pids = [found.pid for name in started if (found := processes.find(name, home=home))]
    services.down(home)
    assert not [pid for pid in pids if psutil.pid_exists(pid)]
    assert processes.names(home) == []


def test_existing_services_are_not_started(new_home: NewHome, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "HEADRACE_KAFKA_BOOTSTRAP": "kafka.example:9092",
        "HEADRACE_REGISTRY_URL": "http://registry.example",
        "HEADRACE_POSTGRES_URL": "postgresql://u:secret@db.example/a",
        "HEADRACE_DAGSTER_POSTGRES_URL": "postgresql+psycopg2://u:secret@db.example/b",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    home = new_home()
    found = services.up(home=home)
    assert found.kafka_bootstrap == "kafka.example:9092"
    assert [s.source for s in services.state(home)] == ["existing"] * 3
    assert "secret" not in repr(services.state(home)) + home.endpoints_file.read_text()
    assert processes.names(home) == []


def test_a_port_taken_in_the_last_moment_is_told_with_the_last_lines(
    new_home: NewHome, monkeypatch: pytest.MonkeyPatch, stack: Services
) -> None:
    home = new_home()
    taken = int(stack.postgres_url.rsplit(":", 1)[1].split("/")[0])
    monkeypatch.setattr("stack.ports.choose", lambda _home, _name: taken)
    began = time.monotonic()
    with pytest.raises(ServiceFailed, match="could not bind") as caught:
        services.up(only=["postgres"], home=home)
    assert "postgres.log" in str(caught.value)
    assert time.monotonic() - began < 40


def test_wrong_words(new_home: NewHome, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"unknown service mysql; there are postgres, kafka, registry"):
        services.up(only=["mysql"], home=new_home())
    monkeypatch.setenv("HEADRACE_KAFKA_HEAP", "lots")
    with pytest.raises(SettingsError, match="HEADRACE_KAFKA_HEAP"):
        services.up(only=["kafka"], home=new_home())


def test_dagster_loads_its_home(stack: Services) -> None:
    from dagster import DagsterInstance

    yaml = stack.home / "dagster" / "dagster.yaml"
    assert yaml.exists()
    assert "postgresql" not in yaml.read_text()
    with DagsterInstance.from_config(str(yaml.parent)) as instance:
        assert not instance.telemetry_enabled
        assert not instance.nux_enabled
        assert instance.get_runs_count() >= 0  # asks Postgres; other tests of the session may have made runs
        assert type(instance.run_storage).__module__.startswith("dagster_postgres")
        assert instance.storage_directory().startswith(str(yaml.parent))


def test_the_env_file_keeps_the_lines_of_the_user(tmp_path: Path) -> None:
    from stack import dagster_home

    home = services.Home(tmp_path / ".headrace")
    (tmp_path / ".env").write_text("MINE=1\nDAGSTER_HOME=/elsewhere\n")
    for _ in range(2):
        dagster_home.write(home, "postgresql+psycopg2://dagster:pw@host/dagster", checkout=tmp_path)
        assert (tmp_path / ".env").read_text().splitlines() == [
            "MINE=1",
            "# headrace: written by `headrace up`",
            f"DAGSTER_HOME={home.root / 'dagster'}",
            "HEADRACE_DAGSTER_POSTGRES_URL=postgresql+psycopg2://dagster:pw@host/dagster",
        ]
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    dagster_home.write(services.Home(tmp_path / "other" / "home"), "x", checkout=tmp_path)
    assert f"DAGSTER_HOME={home.root / 'dagster'}" in (tmp_path / ".env").read_text()


def test_the_lock_names_what_is_there_and_no_host() -> None:
    bundles = artifacts.locked()
    assert [f.filename for f in bundles["apicurio"]] == ["apicurio-registry-app-3.3.3-all.tar.gz"]
    names = [f.filename for f in bundles["kafka"]]
    assert "kafka-clients-4.3.1.jar" in names and len(names) == len(set(names))
    assert "://" not in artifacts.LOCK.read_text()


def test_a_file_that_is_not_the_locked_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = artifacts.Artifact("org.example", "thing", "1", "jar", "", 3, "0" * 64)
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path))
    monkeypatch.setattr(artifacts, "locked", lambda: {"kafka": (wrong,), "apicurio": ()})
    stored = tmp_path / "stored"
    file = stored / "org/example/thing/1/thing-1.jar"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"abc")
    monkeypatch.setattr("jgo.maven.PythonResolver.download", lambda _self, _artifact: file)
    with pytest.raises(ServiceFailed, match=r"thing-1\.jar is not the file"):
        artifacts.fetch("kafka", services.silent)
    assert not artifacts.present("kafka")
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".kafka-")]


def _processes_of(home: services.Home) -> list[psutil.Process]:
    folder = str(postgres.data_folder(home))
    found = []
    for process in psutil.process_iter():
        try:
            if folder in " ".join(process.cmdline()) and process.pid != os.getpid():
                found.append(process)
        except psutil.Error:
            continue
    return found
