"""A demo as an operator starts it, and a browser to look at it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from indexer.demo import anvil as anvil_program
from tests.browser import chromium
from tests.browser.chromium import Browser, Tab

_STARTING = 240.0  # seconds


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, once for all tests."""
    try:
        chromium.program()
    except LookupError as missing:
        pytest.exit(str(missing), returncode=1)
    with chromium.chromium() as running:
        yield running


@pytest.fixture
def tab(browser: Browser) -> Iterator[Tab]:
    """A tab of this test's own."""
    with browser.tab() as tab:
        tab.size(1100)
        yield tab


@pytest.fixture(scope="session")
def demo_directory(anvil_home: Path) -> Iterator[Path]:
    """Where the demo's data are."""
    anvil_program.install(anvil_home)
    # Not below pytest's own directory: as root the servers run as another account, which may not enter it.
    with tempfile.TemporaryDirectory(prefix="gapless-browser-", ignore_cleanup_errors=True) as directory:
        (Path(directory) / "npm").symlink_to(anvil_home / "npm")
        yield Path(directory)


@pytest.fixture(scope="session")
def demo(demo_directory: Path) -> Iterator[str]:
    """The URL of a running ``gapless demo``; it ends with the tests."""
    output = demo_directory / "output"
    with output.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-c", "from indexer.cli import main; main()", "demo"],
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={**os.environ, "GAPLESS_DATA_DIR": str(demo_directory), "CORS_ORIGINS": "*"},
            start_new_session=True,
        )
    try:
        yield _url(process, output)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def node(demo: str, demo_directory: Path) -> str:
    """The URL of the demo's chain."""
    return f"http://127.0.0.1:{(demo_directory / 'demo' / 'anvil' / 'port').read_text().strip()}"


def _url(process: subprocess.Popen[bytes], output: Path) -> str:
    deadline = time.monotonic() + _STARTING
    while True:
        said = output.read_text("utf-8", "replace")
        if found := re.search(r"Gapless is running at (http://\S+?)/\n", said):
            return found[1]
        assert process.poll() is None, said
        assert time.monotonic() < deadline, said
        time.sleep(0.1)
