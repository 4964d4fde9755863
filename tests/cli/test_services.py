"""`headrace dev` and `headrace doctor` on real services."""

from __future__ import annotations

import base64
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

import stack as services
from cli import dagster_services
from cli.examination import examine
from stack import ports
from tests.cli.test_errors import headrace
from tests.conftest import Services


def test_dev_stops_what_it_started_when_something_fails_on_the_way(stack: Services, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)  # as root, Postgres runs as `nobody` and has to get here
    given = {
        "HEADRACE_HOME": str(tmp_path),
        "HEADRACE_KAFKA_BOOTSTRAP": stack.kafka_bootstrap,
        "HEADRACE_REGISTRY_URL": "http://127.0.0.1:9",  # answers nobody: Postgres is up, the schemas cannot register
    }
    try:
        done = headrace("dev", env=given)
        assert done.returncode == 1
        assert "registry http://127.0.0.1:9 does not answer" in done.stderr
        assert "postgres: ready" in done.stderr
        assert services.processes.names(services.Home(tmp_path)) == []
    finally:
        services.down(home=services.Home(tmp_path))


def test_the_webserver_of_dev_is_found_as_the_demos_is(tmp_path: Path) -> None:
    home = services.Home(tmp_path)
    assert dagster_services.url(home) is None
    ports.remember(home, dagster_services.WEBSERVER, 13_579)
    assert dagster_services.url(home) is None, "nothing runs there now"
    for name in (dagster_services.DEV, dagster_services.WEBSERVER):
        services.processes.start(name, [sys.executable, "-c", "import time; time.sleep(600)"], home=home)
        assert dagster_services.url(home) == "http://127.0.0.1:13579"
        services.processes.stop(name, home=home)
    assert dagster_services.url(home) is None


@pytest.fixture
def guarded(stack: Services) -> Iterator[str]:
    """The registry behind a door that asks for a password."""
    wanted = "Basic " + base64.b64encode(b"reader:geheim").decode()

    class Door(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = 401, b'{"error_code":401,"message":"who are you?"}'
            if self.headers.get("Authorization") == wanted:
                base = stack.registry_url.split("/apis")[0]
                try:
                    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(base + self.path) as answer:
                        status, body = answer.status, answer.read()
                except urllib.error.HTTPError as error:
                    status, body = error.code, error.read()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing to say."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/apis/ccompat/v7"
    server.shutdown()
    thread.join()
    server.server_close()


def test_doctor_asks_the_registry_as_every_client_does(
    guarded: str, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found() -> tuple[bool, str]:
        one = next(finding for finding in examine() if finding.name == "registry answers")
        return one.ok, one.message

    monkeypatch.setenv("HEADRACE_REGISTRY_URL", guarded)
    ok, message = found()
    assert not ok and "401" in message
    monkeypatch.setenv("HEADRACE_REGISTRY_CONFIG", '{"basic.auth.user.info": "reader:geheim"}')
    ok, message = found()
    assert ok and "geheim" not in message, message
