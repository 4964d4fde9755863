"""A headless Chromium, driven over its DevTools protocol: pages are read once they say what is awaited, in real time.

`--dump-dom` with a budget of virtual time would end before a page has its data when the machine is busy.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.request import Request, urlopen

from websockets.sync.client import ClientConnection, connect  # comes with dagster-webserver

from headrace.deadline import Deadline

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
)
PATIENCE = 60.0  # seconds; a page of Dagster takes 2 to 5 on a quiet machine


def find() -> str | None:
    """The browser's program: `CHROMIUM`, or what is on the path."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """One tab."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._number = 0

    def __enter__(self) -> Page:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def open(self, url: str, *words: str) -> str:
        """Go there and wait until the page shows all of the words; its text."""
        self._command("Page.navigate", url=url)
        return self.wait(*words)

    def wait(self, *words: str) -> str:
        """Wait until the page shows all of the words; its text."""
        deadline = Deadline.after(PATIENCE)
        while True:
            text = self.text()
            missing = [word for word in words if word not in text]
            if not missing:
                return text
            assert not deadline.passed(), f"{self.run('location.href')} does not show {missing} but:\n{text}"
            time.sleep(0.2)

    def text(self) -> str:
        """What a reader sees, drawings and tables included."""
        return str(self.run("document.body ? document.body.innerText : ''"))

    def click(self, css: str, text: str = "") -> None:
        """Click the innermost element that matches the selector and holds the text, once there is one."""
        matching = f"[...document.querySelectorAll({json.dumps(css)})]"
        element = f"{matching}.filter(e => e.textContent.includes({json.dumps(text)})).at(-1)"
        self.until(f"(e => {{ e?.click(); return !!e }})({element})")

    def until(self, script: str) -> None:
        """Wait until a JavaScript expression is true."""
        deadline = Deadline.after(PATIENCE)
        while not self.run(script):
            assert not deadline.passed(), f"{self.run('location.href')}: not {script}; it shows:\n{self.text()}"
            time.sleep(0.2)

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        done = self._command("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def resize(self, width: int, height: int) -> None:
        """Give the window this size in pixels."""
        self._command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )

    def picture(self, file: Path, box: tuple[int, int, int, int] | None = None) -> None:
        """Write a PNG of the window, or of the box (x, y, width, height) in it."""
        clip = dict(zip(("x", "y", "width", "height"), box, strict=True), scale=1) if box else None
        done = self._command("Page.captureScreenshot", format="png", **({"clip": clip} if clip else {}))
        file.write_bytes(base64.b64decode(done["data"]))

    def _command(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        self._connection.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        deadline = Deadline.after(PATIENCE)
        while True:
            answer = json.loads(self._connection.recv(timeout=deadline.remaining()))
            if answer.get("id") == self._number:  # the rest are events nobody asked for
                assert "error" not in answer, f"{method}: {answer['error']}"
                found: dict[str, Any] = answer["result"]
                return found


@contextmanager
def page(program: str, profile: Path) -> Iterator[Page]:
    """A browser of its own with one tab, ended afterwards. profile: a folder that nobody else uses."""
    command = [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    profile.mkdir(parents=True, exist_ok=True)
    with (profile / "browser.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        with connect(_tab(_port(process, profile)), max_size=None, proxy=None) as connection, Page(connection) as found:
            found.resize(1600, 1000)
            yield found
    finally:
        process.terminate()
        process.wait(30)


def _port(process: subprocess.Popen[bytes], profile: Path) -> int:
    """The port on which the browser listens; it writes it down when it does."""
    written = profile / "DevToolsActivePort"
    deadline = Deadline.after(PATIENCE)
    while not (written.exists() and written.read_text().strip()):
        tail = (profile / "browser.log").read_text(errors="replace")[-2000:]
        assert process.poll() is None and not deadline.passed(), f"the browser did not start:\n{tail}"
        time.sleep(0.05)
    return int(written.read_text().splitlines()[0])


def _tab(port: int) -> str:
    """The address of a new tab."""
    with urlopen(Request(f"http://127.0.0.1:{port}/json/new?about:blank", method="PUT"), timeout=PATIENCE) as answer:
        return str(json.load(answer)["webSocketDebuggerUrl"])
