"""Chromium, driven by its DevTools protocol over a pipe: no port, no driver program, no package besides.

The protocol (https://chromedevtools.github.io/devtools-protocol/) is JSON, each message ended by a NUL byte. Chromium
reads it from file descriptor 3 and writes to 4, and ends when we let go of them, however we end.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
PATIENCE = 60.0

_QUIET = (
    "--headless=new", "--remote-debugging-pipe", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--disable-dev-shm-usage", "--no-default-browser-check", "--mute-audio",
)  # fmt: skip

#: Puts the pipes where Chromium wants them.
_LAUNCH = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


def program() -> str:
    """Where Chromium is.

    Raises:
        LookupError: it is not installed.
    """
    named = os.environ.get("CHROMIUM")
    for name in (named,) if named else NAMES:
        if found := shutil.which(name):
            return found
    looked = f"CHROMIUM={named}" if named else ", ".join(NAMES)
    raise LookupError(
        f"The browser tests need Chromium, and there is none here (looked for {looked}). "
        "Debian and Ubuntu: apt-get install chromium. Another one: CHROMIUM=/path/to/it make test-browser"
    )


class BrowserError(Exception):
    """Chromium refused, or did not answer in time."""


class Browser:
    """A running Chromium."""

    def __init__(self, requests: int, answers: int) -> None:
        self._requests = requests
        self._answers: dict[int, queue.Queue[dict[str, Any]]] = {}
        self._tabs: dict[str, Tab] = {}
        self._count = 0
        self._reader = threading.Thread(target=self._read, args=(answers,), name="chromium", daemon=True)
        self._reader.start()

    def _read(self, answers: int) -> None:
        with os.fdopen(answers, "rb", buffering=0) as stream:
            rest = b""
            while piece := stream.read(1 << 16):
                *messages, rest = (rest + piece).split(b"\0")
                for message in map(json.loads, messages):
                    if "id" in message:
                        self._answers[message["id"]].put(message)
                    elif (tab := self._tabs.get(message.get("sessionId", ""))) is not None:
                        tab.heard(message["method"], message["params"])
        for waiting in list(self._answers.values()):
            waiting.put({"error": {"message": "Chromium has ended"}})

    def ask(self, method: str, session: str | None = None, /, **params: Any) -> dict[str, Any]:
        """One command of the protocol.

        Raises:
            BrowserError: it fails, or there is no answer.
        """
        self._count += 1
        number, message = self._count, {"id": self._count, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        self._answers[number] = queue.Queue()
        os.write(self._requests, json.dumps(message).encode() + b"\0")
        try:
            answer = self._answers[number].get(timeout=PATIENCE)
        except queue.Empty:
            raise BrowserError(f"Chromium does not answer {method} within {PATIENCE:.0f} s") from None
        finally:
            del self._answers[number]
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error']['message']}")
        return dict(answer["result"])

    @contextmanager
    def tab(self) -> Iterator[Tab]:
        """A tab with nothing kept from any other."""
        context = self.ask("Target.createBrowserContext")["browserContextId"]
        target = self.ask("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = self._tabs[session] = Tab(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            tab.ask(f"{domain}.enable")
        try:
            yield tab
        finally:
            with suppress(BrowserError):
                self.ask("Target.disposeBrowserContext", browserContextId=context)
            del self._tabs[session]


class Tab:
    """One page.

    Attributes:
        problems: what its console told: errors, warnings, exceptions, requests that failed, breaches of its policy.
        asked: URL of every request that it made.
    """

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session
        self.problems: list[str] = []
        self.asked: list[str] = []

    def ask(self, method: str, /, **params: Any) -> dict[str, Any]:
        """One command of the protocol, for this tab."""
        return self._browser.ask(method, self._session, **params)

    def heard(self, method: str, params: dict[str, Any]) -> None:
        """Called with every event, in the browser's thread."""
        if method == "Network.requestWillBeSent":
            self.asked.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            detail = params["exceptionDetails"]
            self.problems.append(detail.get("exception", {}).get("description") or detail["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.problems.append(" ".join(str(a.get("value", a.get("description"))) for a in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            entry = params["entry"]
            self.problems.append(f"{entry['source']}: {entry['text']} {entry.get('url', '')}".rstrip())

    def goto(self, url: str) -> None:
        """Open a page and wait until it is loaded with all that it names."""
        before = self.run("performance.timeOrigin")
        if error := self.ask("Page.navigate", url=url).get("errorText"):
            raise BrowserError(f"{url}: {error}")
        # A navigation within the page (another #fragment) loads nothing.
        if url.partition("#")[0] != self.run("location.href").partition("#")[0] or "#" not in url:
            self.wait(f"performance.timeOrigin !== {before}")
        self.wait("document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression; a promise is awaited.

        Raises:
            BrowserError: it throws.
        """
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            detail = answer["exceptionDetails"]
            raise BrowserError(detail.get("exception", {}).get("description") or detail["text"])
        return answer["result"].get("value")

    def wait(self, script: str, patience: float = PATIENCE) -> Any:
        """Wait until an expression is true; returns its value.

        Raises:
            BrowserError: it never is.
        """
        deadline = time.monotonic() + patience
        while True:
            try:
                if value := self.run(script):
                    return value
            except BrowserError as error:
                if "context" not in str(error).lower():  # the page is being replaced
                    raise
            if time.monotonic() > deadline:
                said = "; ".join(self.problems) or "nothing"
                raise BrowserError(f"never true within {patience:.0f} s: {script}\nThe console says: {said}")
            time.sleep(0.05)

    def size(self, width: int, height: int = 800, *, phone: bool = False) -> None:
        """Make the window that large, in CSS pixels."""
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height,
            deviceScaleFactor=2 if phone else 1, mobile=phone,
        )  # fmt: skip

    def dark(self, wanted: bool) -> None:
        """Prefer dark colours, or light ones."""
        feature = {"name": "prefers-color-scheme", "value": "dark" if wanted else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[feature])

    def picture(self, file: Path, most: int | None = None) -> None:
        """Save the whole page as PNG, or its upper ``most`` pixels."""
        width, height = self.run("[document.documentElement.clientWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": width, "height": min(height, most or height), "scale": 1}
        data = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)["data"]
        file.write_bytes(base64.b64decode(data))


def _high(descriptor: int) -> int:
    """The same under a number that does not collide with 3 and 4."""
    high = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    return high


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run Chromium with a profile of its own for as long as this block."""
    command = [program(), *_QUIET, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with ExitStack() as stack:
        profile = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="gapless-chromium-", ignore_cleanup_errors=True)
        )
        theirs_in, ours_out = map(_high, os.pipe())
        ours_in, theirs_out = map(_high, os.pipe())
        launcher = [sys.executable, "-S", "-c", _LAUNCH, str(theirs_in), str(theirs_out)]
        process = subprocess.Popen(
            [*launcher, *command, f"--user-data-dir={profile}"], pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        try:
            browser = Browser(ours_out, ours_in)
            yield browser
            with suppress(BrowserError):
                browser.ask("Browser.close")
        finally:
            os.close(ours_out)  # the pipe's end is Chromium's
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
