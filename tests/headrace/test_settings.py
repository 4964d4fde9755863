from __future__ import annotations

import json
from pathlib import Path

import pytest

from headrace import settings
from headrace.errors import SettingsError


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HEADRACE_WORKERS", "many"),
        ("HEADRACE_KAFKA_CONFIG", "{"),
        ("HEADRACE_REGISTRY_CONFIG", "[1]"),
        ("HEADRACE_LOG_LEVEL", "LOUD"),
        ("HEADRACE_BATCH_RECORDS", "0"),
    ],
)
def test_a_wrong_value_names_its_variable_in_one_line(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        settings.load()
    assert variable in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_environment_wins_over_the_local_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    monkeypatch.delenv("HEADRACE_KAFKA_BOOTSTRAP", raising=False)
    (tmp_path / "endpoints.json").write_text(json.dumps({"kafka_bootstrap": "local:1", "registry_url": "http://local"}))
    assert settings.load().kafka(group_id="g") == {"bootstrap.servers": "local:1", "group.id": "g"}
    monkeypatch.setenv("HEADRACE_KAFKA_BOOTSTRAP", "given:2")
    monkeypatch.setenv("HEADRACE_KAFKA_CONFIG", '{"sasl.mechanism": "PLAIN"}')
    assert settings.load().kafka() == {"bootstrap.servers": "given:2", "sasl.mechanism": "PLAIN"}
    (tmp_path / "endpoints.json").write_text("{")
    with pytest.raises(SettingsError, match="headrace up"):
        settings.load()


def test_secrets_do_not_show() -> None:
    shown = repr(settings.Settings(postgres_url="postgresql://u:hidden@h/db"))  # type: ignore[arg-type]  # as from the environment
    assert "hidden" not in shown
