"""A headless Chromium for tests and screenshots, driven over a pipe by its DevTools protocol.

That needs no package beside the browser itself: messages are JSON, ended by a zero byte, on file descriptors
3 and 4 (https://chromedevtools.github.io/devtools-protocol/). Names of hosts resolve to nothing, so a page
can reach this machine at most.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

NAMES = ("chromium", "chromium-browser", "google-chrome")

_OPTIONS = (
    "--headless=new", "--no-first-run", "--disable-gpu", "--disable-extensions", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1", "--remote-debugging-pipe",
)  # fmt: skip

_PATIENCE = 60.0
"""Seconds after which a browser that says nothing is given up."""


def find() -> str | None:
    """Give the path of a Chromium on this machine."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextlib.contextmanager
def serve_tensorboard(folder: Path) -> Iterator[str]:
    """Start TensorBoard on a folder of runs and give its address, which ends in a slash."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--host", "127.0.0.1"]
    process = subprocess.Popen(
        [*command, "--port", "0"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    said = []
    try:
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+/", line):
                yield found[0]
                return
        raise RuntimeError(f"TensorBoard did not start: {''.join(said)}")
    finally:
        process.terminate()
        process.wait(_PATIENCE)
        process.stderr.close()


def timeseries(tensorboard: str, tags: Sequence[str]) -> str:
    """Give the address of TensorBoard's first page with these tags alone."""
    pattern = quote(f"^({'|'.join(tags)})$")
    return f"{tensorboard}?darkMode=false&smoothing=0&tagFilter={pattern}#timeseries"


class Browser:
    """A running browser.

    Args:
        path: Of the program.
    """

    def __init__(self, path: str) -> None:
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        reads, self._to = os.pipe()
        self._from, writes = os.pipe()
        # Chromium refuses to sandbox itself for root. Bash, as dash knows no descriptors above 9.
        options = [*_OPTIONS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{reads} 4>&{writes}', "bash", path, *options,
             f"--user-data-dir={self._profile.name}", "about:blank"],
            pass_fds=(reads, writes), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(reads)
        os.close(writes)
        self._rest = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.send("Browser.close")
        finally:
            self._process.wait(_PATIENCE)
            os.close(self._to)
            os.close(self._from)
            self._profile.cleanup()

    def send(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for what it gives; events that come meanwhile are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def receive(self, patience: float = _PATIENCE) -> dict[str, Any]:
        """Wait for the next message; an event is kept too."""
        until = time.monotonic() + patience
        while b"\0" not in self._rest:
            if not select.select([self._from], [], [], max(0.0, until - time.monotonic()))[0]:
                raise TimeoutError("the browser says nothing")
            if not (read := os.read(self._from, 1 << 20)):
                raise ConnectionError("the browser is gone")
            self._rest += read
        first, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(first)
        if "method" in message:
            self.events.append(message)
        return message

    def open(self, url: str, width: int, height: int, scale: float = 1.0) -> Page:
        """Open a page of so many CSS pixels, and wait until it is loaded."""
        return Page(self, url, width, height, scale)


class Page:
    """An open page, and what became known of it."""

    def __init__(self, browser: Browser, url: str, width: int, height: int, scale: float) -> None:
        self._browser = browser
        target = browser.send("Target.createTarget", url="about:blank")["targetId"]
        attached = browser.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._send(f"{domain}.enable")
        self._send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=scale, mobile=False,
        )  # fmt: skip
        self._send("Page.navigate", url=url)
        while not self._events("Page.loadEventFired"):
            browser.receive()

    def _send(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.send(method, self._session, **parameters)

    def _events(self, method: str) -> list[dict[str, Any]]:
        own = (event for event in self._browser.events if event.get("sessionId") == self._session)
        return [event["params"] for event in own if event["method"] == method]

    @property
    def requests(self) -> list[str]:
        """All addresses that the page asked for, itself among them."""
        return [event["request"]["url"] for event in self._events("Network.requestWillBeSent")]

    @property
    def complaints(self) -> list[str]:
        """Errors and warnings of the console, and exceptions that nobody caught."""
        logged = [e["entry"] for e in self._events("Log.entryAdded")]
        spoken = [e for e in self._events("Runtime.consoleAPICalled") if e["type"] in ("error", "warning")]
        thrown = self._events("Runtime.exceptionThrown")
        return [json.dumps(one) for one in (*logged, *spoken, *thrown)]

    def evaluate(self, script: str) -> Any:
        """Give the value of an expression of JavaScript."""
        found = self._send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait_for(self, script: str, patience: float = _PATIENCE) -> Any:
        """Evaluate until it gives something true."""
        until = time.monotonic() + patience
        while not (value := self.evaluate(script)):
            assert time.monotonic() < until, f"never true: {script}"
            time.sleep(0.2)
        return value

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Write what is seen as PNG; the whole page where asked."""
        found = self._send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))

    def pdf(self, path: Path) -> None:
        """Print it on A4."""
        found = self._send("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)
        path.write_bytes(base64.b64decode(found["data"]))
