from __future__ import annotations

import urllib.request

import pytest

from headrace.proxy import spare_loopback


@pytest.mark.parametrize("variable", ["no_proxy", "NO_PROXY", None])
def test_loopback_is_reached_directly_and_other_hosts_as_before(
    monkeypatch: pytest.MonkeyPatch, variable: str | None
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")  # so that what the function sets is undone
        monkeypatch.delenv(name)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    if variable:
        monkeypatch.setenv(variable, "db.example")
    spare_loopback()
    spare_loopback()
    assert urllib.request.proxy_bypass("127.0.0.1:8081")
    assert urllib.request.proxy_bypass("localhost:8081")
    assert bool(urllib.request.proxy_bypass("db.example")) == bool(variable)
    assert not urllib.request.proxy_bypass("registry.example")
